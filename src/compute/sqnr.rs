//! `sqnr`: the signal-to-quantization-noise ratio of rows.

use arrow_array::{Array, Float64Array};

use super::{ComputeError, arrays::pair::pair_stats};
use crate::types::ErrorSums;

/// Returns the signal-to-quantization-noise ratio of each row of `b` as a stand-in for that of `a`, in dB:
/// `10 log10(sum a^2 / sum (a-b)^2)`. Infinite when the rows are equal, minus infinity when only `a` is zeros.
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
/// let result = arrow_quant::compute::sqnr(&list([10.0, 0.0]), &list([9.0, 0.0]))?;
/// assert_eq!(result.value(0), 20.0);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn sqnr(a: &dyn Array, b: &dyn Array) -> Result<Float64Array, ComputeError> {
    Ok(pair_stats(a, b)?.iter().map(|stats| stats.as_ref().map(ErrorSums::sqnr)).collect())
}
