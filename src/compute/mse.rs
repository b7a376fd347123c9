//! `mse`: the mean squared error of rows.

use arrow_array::{Array, Float64Array};

use super::{ComputeError, arrays::pair::pair_stats};
use crate::types::ErrorSums;

/// Returns the mean squared error of each pair of rows; 0 for empty rows.
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
/// let result = arrow_quant::compute::mse(&list([1.0, 2.0]), &list([1.0, 4.0]))?;
/// assert_eq!(result.value(0), 2.0);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn mse(a: &dyn Array, b: &dyn Array) -> Result<Float64Array, ComputeError> {
    Ok(pair_stats(a, b)?.iter().map(|stats| stats.as_ref().map(ErrorSums::mse)).collect())
}
