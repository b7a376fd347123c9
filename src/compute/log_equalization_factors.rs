//! `log_equalization_factors`: equalization that looks at the activations alone.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        rows::{Rows, finite_absmax},
    },
    equalization_factors::average_where_unfed,
};

/// The least factor, as of [`equalization_factors`](super::equalization_factors).
const LEAST: f64 = 1e-5;

/// Returns the factors of log equalization (arXiv:2308.15987) for each input channel `j`: `max(a_j / log2(2 + a_j), 1e-5)`, and
/// where `a_j` is 0 the geometric mean of the others' (1 where there are none). Weights are multiplied by them, activations divided.
///
/// `act_absmax` is a list array of floats, the largest magnitude of each channel; signs are ignored. The result is
/// `List<Float32>`; null gives null.
///
/// # Errors
/// Returns an error if the array is of another type, or if an element is null, infinite or NaN.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, cast::AsArray, types::Float32Type};
///
/// let absmax = ListArray::from_iter_primitive::<Float32Type, _, _>([Some([Some(6.0), Some(0.0)])]);
/// let factors = arrow_quant::compute::log_equalization_factors(&absmax)?;
/// assert_eq!(factors.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[2.0, 2.0][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn log_equalization_factors(act_absmax: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let activations = Rows::try_new(act_absmax, "act_absmax")?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(activations.len(), 0);
    let mut scratch = Vec::new();
    for row in 0..activations.len() {
        let Some(a) = activations.row(row, &mut scratch)? else {
            builder.push_null();
            continue;
        };
        finite_absmax(a, row)?;
        let out = builder.push(a.len())?;
        for (out, a) in out.iter_mut().zip(a) {
            let a = f64::from(a.abs());
            *out = (a / (2.0 + a).log2()).max(LEAST) as f32;
        }
        average_where_unfed(a, out);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::testing::arrays::list;

    #[test]
    fn signs_are_ignored_and_null_is_null() {
        let factors = log_equalization_factors(&list(&[Some(&[-6.0, 2.0]), None])).unwrap();
        assert_eq!(&factors, &list(&[Some(&[2.0, 1.0]), None]));
        assert!(log_equalization_factors(&list(&[Some(&[f32::NAN])])).is_err());
    }

    #[test]
    fn factors_of_the_ends_of_f32_and_one_over_them_are_finite_and_above_zero() {
        let factors =
            log_equalization_factors(&list(&[Some(&[0.0, -0.0, f32::from_bits(1), f32::MAX, -f32::MAX])])).unwrap();
        let factors = factors.as_list::<i32>().value(0);
        for factor in factors.as_primitive::<Float32Type>().values() {
            assert!(
                *factor > 0.0 && factor.is_finite() && (1.0 / factor).is_finite() && 1.0 / factor > 0.0,
                "{factor}"
            );
        }
    }
}
