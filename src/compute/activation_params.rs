//! `activation_params`: the quantizer of a range of activations.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StructArray,
    builder::{Float32Builder, Int32Builder},
};
use arrow_buffer::NullBuffer;

use super::ComputeError;
use crate::types::{ActivationBits, activations::activation_params_fields};

/// Returns the uniform quantizer of activations from `lo` to `hi`, row by row: `x = scale * (code - zero_point)` with
/// codes from 0 to `2^bits - 1`.
///
/// The range is widened to include zero, which has a code of its own: `scale = (hi - lo) / (2^bits - 1)` and
/// `zero_point = round(-lo / scale)`, ties to even; symmetric, the zero point is `2^(bits-1)` and the scale the least that
/// reaches both ends. A range of nothing but zero has scale 1. The arrays are of as many rows, `bits` 2 to 8. The result
/// is of type [`activation_params_type`](crate::types::activations::activation_params_type); null in any argument gives
/// null.
///
/// # Errors
/// Returns an error if lengths differ, if bits are not accepted, if `lo` or `hi` is NaN or infinite, or passes f32, or
/// `lo` exceeds `hi`.
///
/// # Example
/// ```
/// use arrow_array::{BooleanArray, Float64Array, Int64Array, cast::AsArray, types::Float32Type};
///
/// let params = arrow_quant::compute::activation_params(
///     &Float64Array::from(vec![-1.0]),
///     &Float64Array::from(vec![2.0]),
///     &Int64Array::from(vec![2]),
///     &BooleanArray::from(vec![false]),
/// )?;
/// assert_eq!(params.as_struct().column(0).as_primitive::<Float32Type>().values(), &[1.0][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn activation_params(
    lo: &Float64Array,
    hi: &Float64Array,
    bits: &Int64Array,
    symmetric: &BooleanArray,
) -> Result<ArrayRef, ComputeError> {
    let rows = lo.len();
    if [hi.len(), bits.len(), symmetric.len()].iter().any(|len| *len != rows) {
        let message = "lo, hi, bits and symmetric must have the same number of rows";
        return Err(ComputeError::InvalidArgument(message.into()));
    }
    let nulls: [&dyn Array; 4] = [lo, hi, bits, symmetric];
    let nulls = nulls.iter().fold(None, |all, array| NullBuffer::union(all.as_ref(), array.nulls()));
    let (mut scales, mut zero_points) = (Float32Builder::with_capacity(rows), Int32Builder::with_capacity(rows));
    for row in 0..rows {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            scales.append_null();
            zero_points.append_null();
            continue;
        }
        let bits = ActivationBits::try_from(bits.value(row))?;
        let (scale, zero_point) = one(lo.value(row), hi.value(row), bits, symmetric.value(row))
            .map_err(|problem| ComputeError::InvalidArgument(format!("row {row}: {problem}")))?;
        scales.append_value(scale);
        zero_points.append_value(zero_point);
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(scales.finish()), Arc::new(zero_points.finish())];
    Ok(Arc::new(StructArray::try_new(activation_params_fields(), columns, nulls)?))
}

fn one(lo: f64, hi: f64, bits: ActivationBits, symmetric: bool) -> Result<(f32, i32), String> {
    let most = f64::from(f32::MAX);
    if !(lo.abs() <= most && hi.abs() <= most) {
        return Err(format!("the range is {lo} to {hi}; only finite values of f32 are accepted"));
    }
    if lo > hi {
        return Err(format!("lo must not exceed hi, not {lo} and {hi}"));
    }
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    let middle = f64::from(1u16 << (bits.get() - 1));
    let exact =
        if symmetric { (hi / (middle - 1.0)).max(-lo / middle) } else { (hi - lo) / f64::from(bits.max_code()) };
    if exact == 0.0 {
        return Ok((1.0, if symmetric { middle as i32 } else { 0 }));
    }
    // A normal number, so that its reciprocal is one.
    let scale = (exact as f32).max(f32::MIN_POSITIVE);
    let zero_point = if symmetric { middle } else { (-lo / f64::from(scale)).round_ties_even() };
    Ok((scale, zero_point as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(lo: f64, hi: f64, bits: i64, symmetric: bool) -> Result<(f32, i32), String> {
        one(lo, hi, ActivationBits::try_from(bits).unwrap(), symmetric)
    }

    #[test]
    fn ranges_include_zero_and_reach_both_ends() {
        for bits in 2..=8 {
            let codes = f64::from((1u16 << bits) - 1);
            for (lo, hi) in [(-1.0, 2.0), (-0.17, 3.3), (0.5, 4.0), (-9.0, -3.0), (-1e-38, 3e38), (0.0, 1e-40)] {
                let (scale, zero_point) = params(lo, hi, bits, false).unwrap();
                let (z, scale) = (f64::from(zero_point), f64::from(scale));
                assert!((0.0..=codes).contains(&z));
                // Rounding the zero point moves both ends by half a step at most.
                assert!(scale * (codes - z) >= hi - 0.51 * scale && -scale * z <= lo.min(0.0) + 0.51 * scale);
                let (scale, zero_point) = params(lo, hi, bits, true).unwrap();
                let (z, scale) = (f64::from(zero_point), f64::from(scale));
                assert!(z == 2f64.powi(bits as i32 - 1) && scale * (codes - z) >= hi * 0.999_999);
                assert!(-scale * z <= lo * 0.999_999);
            }
        }
        assert_eq!(params(0.0, 0.0, 4, false), Ok((1.0, 0)));
        assert_eq!(params(0.0, 0.0, 4, true), Ok((1.0, 8)));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for (lo, hi) in [(1.0, -1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (-1e39, 0.0)] {
            assert!(params(lo, hi, 8, false).is_err(), "{lo} {hi}");
        }
    }
}
