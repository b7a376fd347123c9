//! `quantize_with`: the second half of `quantize`.

use arrow_array::{Array, ArrayRef};

use super::{
    ComputeError,
    builder::{QuantizedBuilder, RowShape},
    quantized::ParamsArray,
    row::RowQuantizer,
    rows::Rows,
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
/// As [`quantize`](super::quantize); also when the numbers of rows differ, when the parameters of a row do not fit
/// together, or are for another length than the row's.
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
