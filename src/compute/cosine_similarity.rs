//! `cosine_similarity`: the cosine of the angle between rows.

use arrow_array::{Array, Float64Array};

use super::{ComputeError, arrays::pair::measure_pairs};
use crate::kernels::cosine_similarity::cosine_similarity as measure;

/// Returns the cosine similarity of each pair of rows: 1 when both are zeros, 0 when only one is, never NaN.
///
/// Either side is any list array of floats, or an array of quantized values, which is decoded. Null gives null.
///
/// # Errors
/// Returns an error if either side is of another type, if the numbers of rows or the lengths of two rows differ, if a
/// quantized value is corrupt, or if an element is null, infinite or NaN (the error names row and element).
///
/// # Example
/// ```
/// use arrow_array::{ListArray, types::Float32Type};
///
/// let list = |row: [f32; 2]| ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.map(Some))]);
/// let result = arrow_quant::compute::cosine_similarity(&list([3.0, 0.0]), &list([3.0, 4.0]))?;
/// assert_eq!(result.value(0), 0.6);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn cosine_similarity(a: &dyn Array, b: &dyn Array) -> Result<Float64Array, ComputeError> {
    // Rows with an infinity may have a cosine all the same.
    Ok(Float64Array::from(measure_pairs(a, b, measure, |_| false)?))
}
