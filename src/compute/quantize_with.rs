//! `quantize_with`: the second half of `quantize`.

use arrow_array::{Array, ArrayRef};

use super::{
    ComputeError,
    arrays::{
        builder::{QuantizedBuilder, RowShape},
        quantized::ParamsArray,
        row::RowQuantizer,
        rows::Rows,
    },
};
use crate::types::Bits;

/// Encodes each row of `weights` with the parameters given: those of [`quant_params`](super::quant_params), or
/// from anywhere else.
///
/// `bits` holds one width for all rows, or one for each; `params` one row for each row of `weights`, of
/// [`params_type`](crate::types::quantized::params_type) (a quantized value does as well). Weights beyond the codes
/// are clipped. A null row of either, and a row without bits, gives null.
///
/// # Errors
/// Returns the errors of [`quantize`](super::quantize); also an error if the numbers of rows differ, if the parameters
/// of a row do not fit together, or are for another length than the row's.
pub fn quantize_with(weights: &dyn Array, bits: &[Option<Bits>], params: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    let params = ParamsArray::try_new(params)?;
    for (what, len) in [("bits", bits.len()), ("params", params.len())] {
        if len != rows.len() && !(what == "bits" && len == 1) {
            let count = rows.len();
            return Err(ComputeError::InvalidArgument(format!("{what} has {len} rows where weights has {count}")));
        }
    }
    let mut builder = QuantizedBuilder::with_capacity(rows.len());
    let (mut quantizer, mut widened) = (RowQuantizer::default(), Vec::new());
    for row in 0..rows.len() {
        let bits = bits[if bits.len() == 1 { 0 } else { row }];
        let (Some(weights), Some(bits), Some(params)) = (rows.row(row, &mut widened)?, bits, params.row(row)?) else {
            builder.push_null()?;
            continue;
        };
        if params.length != weights.len() {
            let (what, got, expected) = ("weights", weights.len(), params.length);
            return Err(ComputeError::Length { row, what, got, expected });
        }
        let (prepared, _) = quantizer.prepare(weights, row)?;
        let out = builder.push(RowShape {
            bits: Some(bits),
            group_size: params.group_size as u32,
            length: weights.len(),
            symmetric: params.zero_points.is_none(),
        })?;
        *out.row_scale = params.row_scale;
        out.scales.copy_from_slice(params.scales);
        if let (Some(out), Some(codes)) = (out.zero_points, params.zero_points) {
            out.copy_from_slice(codes);
        }
        prepared.encode(&params.with_bits(bits), out.codes);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{quant_params, quantize},
        *,
    };
    use crate::{
        testing::{
            arrays::{TWO_GROUPS, array, list, two_groups},
            samples,
        },
        types::{Method, QuantizeOptions},
    };

    #[test]
    fn values_are_those_of_the_formula_and_what_is_beyond_the_codes_is_clipped() {
        let params = array(&[Some(two_groups()), Some(two_groups()), None]);
        let beyond = TWO_GROUPS.map(|w| if w == 1.5 { 99.0 } else { w });
        let weights = list(&[Some(&TWO_GROUPS), Some(&beyond), Some(&TWO_GROUPS)]);
        assert_eq!(&quantize_with(&weights, &[Some(Bits::Two)], &params).unwrap(), &params);
        // The same scales and zero points in four bits: codes 0 to 3 from 0, and 4 to 7 around 5.
        let mut wider = two_groups();
        (wider.bits, wider.codes) = (Some(4), Some(vec![0x10, 0x32, 0x54, 0x76]));
        let bits = [None, Some(Bits::Two), Some(Bits::Four)];
        let got = quantize_with(&weights, &bits, &params).unwrap();
        assert_eq!(&got, &array(&[None, Some(two_groups()), None]));
        let got = quantize_with(&weights.slice(0, 1), &[Some(Bits::Four)], &params.slice(0, 1)).unwrap();
        assert_eq!(&got, &array(&[Some(wider)]));
    }

    #[test]
    fn the_parameters_of_quant_params_give_what_quantize_gives() {
        let rows: Vec<_> = samples::rows().filter(|row| row.len() % 37 < 3).collect();
        let weights = list(&rows.iter().map(|row| Some(&row[..])).chain([None]).collect::<Vec<_>>());
        for bits in Bits::ALL {
            for (method, symmetric) in Method::ALL.iter().copied().flat_map(|method| [(method, false), (method, true)])
            {
                let options = QuantizeOptions::new(bits).with_method(method).with_symmetric(symmetric).into();
                let params = quant_params(&weights, &options).unwrap();
                let got = quantize_with(&weights, &[Some(bits)], &params).unwrap();
                assert_eq!(&got, &quantize(&weights, &options).unwrap(), "{bits} {method} {symmetric}");
            }
        }
    }

    #[test]
    fn arguments_that_do_not_match_are_refused() {
        let weights = list(&[Some(&TWO_GROUPS), Some(&TWO_GROUPS[..3])]);
        let params = array(&[Some(two_groups()), Some(two_groups())]);
        let run =
            |bits: &[Option<Bits>], params: &dyn Array| quantize_with(&weights, bits, params).unwrap_err().to_string();
        let two = Some(Bits::Two);
        assert_eq!(run(&[two], &params), "row 1: weights has 3 elements where 8 are expected");
        assert_eq!(run(&[two, two, two], &params), "bits has 3 rows where weights has 2");
        assert_eq!(run(&[], &params), "bits has 0 rows where weights has 2");
        assert_eq!(run(&[two], &params.slice(0, 1)), "params has 1 rows where weights has 2");
    }
}
