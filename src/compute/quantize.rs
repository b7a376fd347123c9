//! `quantize`: rows of floats to quantized values.

use arrow_array::{Array, ArrayRef};

use super::{
    ComputeError, RowOptions,
    builder::{QuantizedBuilder, RowShape},
    importance::Importance,
    row::RowQuantizer,
    rows::Rows,
};

/// Quantizes each row of `weights` with its options.
///
/// `weights` is any list array of floats ([`Rows`]); the result has the type
/// [`quantized_type`](crate::types::quantized::quantized_type). A null row, and a row without options, gives null.
/// Rows are independent: slicing, batching and threads do not change a bit.
///
/// # Errors
/// When `weights` is of another type, when a weight is null, infinite or NaN (the error names row and element), or
/// when the result would pass what one array holds.
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
    run(weights, None, options)
}

/// As [`quantize`], the squared error of each weight multiplied by the importance of its input channel where
/// the method is a search: `E[x^2]` of what the layer is fed.
///
/// `importance` is a list array of one row, for all weights, or of one row for each row of `weights`, as long as that.
/// A null row of it weighs all alike.
///
/// # Errors
/// As [`quantize`]; also when an importance is negative, infinite, NaN or null, or a row of it has another length.
pub fn quantize_weighted(
    weights: &dyn Array,
    importance: &dyn Array,
    options: &RowOptions,
) -> Result<ArrayRef, ComputeError> {
    run(weights, Some(importance), options)
}

fn run(weights: &dyn Array, importance: Option<&dyn Array>, options: &RowOptions) -> Result<ArrayRef, ComputeError> {
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
        let mut out = builder.push(RowShape::new(options, weights.len(), true))?;
        let zero_points = out.zero_points.as_deref_mut();
        *out.row_scale = prepared.estimate(importance, options, &mut scratch, out.scales, zero_points);
        out.encode(options, |params, codes| prepared.encode(params, codes));
    }
    builder.finish()
}
