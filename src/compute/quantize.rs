//! `quantize`: rows of floats to quantized values.

use arrow_array::{Array, ArrayRef};

use super::{
    ComputeError, RowOptions,
    arrays::{
        builder::{QuantizedBuilder, RowShape},
        importance::Importance,
        row::RowQuantizer,
        rows::Rows,
    },
};

/// Quantizes each row of `weights` with its options.
///
/// `weights` is any list array of floats ([`Rows`]); the result has the type
/// [`quantized_type`](crate::types::quantized::quantized_type). A null row, and a row without options, gives null.
/// Rows are independent: slicing, batching and threads do not change a bit.
///
/// # Errors
/// Returns an error if `weights` is of another type, if a weight is null, infinite or NaN (the error names row and
/// element), or if the result would pass what one array holds.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, types::Float32Type};
/// use arrow_quant::{compute, types::{Bits, QuantizeOptions}};
///
/// let row = [0.0f32, 0.1, -0.2, 0.3].map(Some).to_vec();
/// let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row), None]);
/// let quantized = compute::quantize(&weights, &QuantizeOptions::new(Bits::Eight).into())?;
/// assert!(quantized.is_null(1));
/// let decoded = compute::dequantize(&quantized)?;
/// assert!(compute::sqnr(&weights, &decoded)?.value(0) > 40.0);
/// # Ok::<(), compute::ComputeError>(())
/// ```
pub fn quantize(weights: &dyn Array, options: &RowOptions) -> Result<ArrayRef, ComputeError> {
    quantize_rows(weights, None, options, true)
}

/// Does the same as [`quantize`], the squared error of each weight multiplied by the importance of its input channel
/// where the method is a search: `E[x^2]` of the layer's input.
///
/// `importance` is a list array of one row, for all weights, or of one row for each row of `weights`, as long as that.
/// A null row of it weighs all alike.
///
/// # Errors
/// Returns the errors of [`quantize`]; also an error if an importance is negative, infinite, NaN or null, or a row of
/// it has another length.
pub fn quantize_weighted(
    weights: &dyn Array,
    importance: &dyn Array,
    options: &RowOptions,
) -> Result<ArrayRef, ComputeError> {
    quantize_rows(weights, Some(importance), options, true)
}

/// Returns the quantized values, or without `codes` their parameters alone.
pub(super) fn quantize_rows(
    weights: &dyn Array,
    importance: Option<&dyn Array>,
    options: &RowOptions,
    codes: bool,
) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    options.check_len(rows.len())?;
    let mut importance = Importance::try_new(importance, rows.len())?;
    let mut builder = QuantizedBuilder::with_capacity(rows.len());
    let (mut quantizer, mut widened) = (RowQuantizer::default(), Vec::new());
    for row in 0..rows.len() {
        let (Some(weights), Some(options)) = (rows.row(row, &mut widened)?, options.get(row)) else {
            builder.push_null()?;
            continue;
        };
        let importance = importance.row(row, weights.len())?;
        let (prepared, mut scratch) = quantizer.prepare(weights, row)?;
        let mut out = builder.push(RowShape::new(options, weights.len(), codes))?;
        let zero_points = out.zero_points.as_deref_mut();
        *out.row_scale = prepared.estimate(importance, options, &mut scratch, out.scales, zero_points);
        if codes {
            out.encode(options, |params, packed| prepared.encode(params, packed));
        }
    }
    if codes { builder.finish() } else { builder.finish_params() }
}

#[cfg(test)]
mod tests {
    use arrow_array::Float32Array;

    use super::{super::dequantize, *};
    use crate::{
        compute::{error_stats, sqnr},
        testing::{
            arrays::{SYMMETRIC, TWO_GROUPS, array, list, symmetric, two_groups},
            samples,
        },
        types::{Bits, Method, QuantizeOptions},
    };

    fn options(bits: Bits, group_size: i64) -> QuantizeOptions {
        QuantizeOptions::new(bits).with_group_size(group_size).unwrap()
    }

    #[test]
    fn values_are_those_of_the_formula() {
        let weights = list(&[Some(&TWO_GROUPS), None, Some(&SYMMETRIC)]);
        let per_row = vec![Some(options(Bits::Two, 4)), Some(options(Bits::Two, 4)), None];
        // What the codes hit exactly, both methods find.
        for method in Method::ALL.iter().copied() {
            let two = options(Bits::Two, 4).with_method(method);
            let three = options(Bits::Three, 32).with_method(method).with_symmetric(true);
            let got = quantize(&weights, &RowOptions::PerRow(vec![Some(two), Some(two), Some(three)])).unwrap();
            assert_eq!(&got, &array(&[Some(two_groups()), None, Some(symmetric())]), "{method}");
        }
        let got = quantize(&weights, &RowOptions::PerRow(per_row)).unwrap();
        assert_eq!(&got, &array(&[Some(two_groups()), None, None]));
    }

    #[test]
    fn options_for_another_number_of_rows_are_refused() {
        let weights = list(&[Some(&TWO_GROUPS)]);
        let error = quantize(&weights, &RowOptions::PerRow(vec![])).unwrap_err().to_string();
        assert_eq!(error, "options are given for 0 rows where there are 1");
    }

    #[test]
    fn bad_weights_are_named_and_other_arrays_refused() {
        let run = |weights: &dyn Array| quantize(weights, &options(Bits::Four, 32).into()).unwrap_err().to_string();
        let message = run(&list(&[Some(&[1.0]), Some(&[1.0, f32::NEG_INFINITY])]));
        assert_eq!(message, "row 1, element 1 is -inf; only finite values are accepted");
        assert!(run(&Float32Array::from(vec![1.0])).starts_with("weights must be a list"));
    }

    #[test]
    fn eight_bits_keep_normal_rows_within_45_8_decibels() {
        let row = samples::normal(1 << 16, 77);
        let weights = list(&[Some(&row)]);
        let quantized = quantize(&weights, &options(Bits::Eight, 32).with_method(Method::Minmax).into()).unwrap();
        let sqnr = sqnr(&weights, &quantized).unwrap().value(0);
        assert!(sqnr >= 45.8, "{sqnr} dB");
    }

    #[test]
    fn rows_do_not_see_each_other() {
        let rows: Vec<_> = (0..9).map(|i| samples::heavy(i * 13, i as u64)).collect();
        let weights = list(&rows.iter().map(|row| Some(&row[..])).collect::<Vec<_>>());
        for bits in Bits::ALL {
            let options = options(bits, 32).into();
            let all = quantize(&weights, &options).unwrap();
            for i in 0..rows.len() {
                assert_eq!(&all.slice(i, 1), &quantize(&weights.slice(i, 1), &options).unwrap());
            }
            let decoded = dequantize(&all).unwrap();
            assert_eq!(&error_stats(&weights, &all).unwrap(), &error_stats(&weights, &decoded).unwrap());
        }
    }
}
