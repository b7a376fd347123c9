//! `equalization_factors`: how much of the activations' range the weights take over, per input channel.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        rows::{Rows, finite_absmax},
    },
};

/// The least factor, and the least magnitude of weights that is divided by.
const LEAST: f64 = 1e-5;

/// Returns the factors of `SmoothQuant` (arXiv:2211.10438) for each input channel `j`:
/// `max(a_j^alpha / max(w_j, 1e-5)^(1 - alpha), 1e-5)`, and where `a_j` is 0, since calibration never fed the channel, the
/// geometric mean of the others' (1 where there are none). Weights are multiplied by them
/// ([`equalize`](super::equalize)), activations divided.
///
/// `act_absmax` (`a`) and `weight_absmax` (`w`) are list arrays of floats, of as many rows and of equal lengths:
/// the largest magnitude of each channel. Signs are ignored. The result is `List<Float32>`; null gives null.
///
/// # Errors
/// Returns an error if `alpha` is not in 0 to 1, if either array is of another type, if rows or lengths differ, or if
/// an element is null, infinite or NaN.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, cast::AsArray, types::Float32Type};
///
/// let list = |row: [f32; 2]| ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.map(Some))]);
/// let factors = arrow_quant::compute::equalization_factors(&list([16.0, 4.0]), &list([1.0, 0.25]), 0.5)?;
/// assert_eq!(factors.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[4.0, 4.0][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn equalization_factors(
    act_absmax: &dyn Array,
    weight_absmax: &dyn Array,
    alpha: f64,
) -> Result<ArrayRef, ComputeError> {
    if !(0.0..=1.0).contains(&alpha) {
        return Err(ComputeError::InvalidArgument(format!("alpha must be in 0 to 1, not {alpha}")));
    }
    let activations = Rows::try_new(act_absmax, "act_absmax")?;
    let weights = Rows::try_new(weight_absmax, "weight_absmax")?;
    if activations.len() != weights.len() {
        let (a, w) = (activations.len(), weights.len());
        return Err(ComputeError::InvalidArgument(format!("act_absmax has {a} rows, weight_absmax {w}")));
    }
    let mut builder = ListBuilder::<Float32Type>::with_capacity(weights.len(), 0);
    let (mut a_scratch, mut w_scratch) = (Vec::new(), Vec::new());
    for row in 0..weights.len() {
        let (Some(a), Some(w)) = (activations.row(row, &mut a_scratch)?, weights.row(row, &mut w_scratch)?) else {
            builder.push_null();
            continue;
        };
        if a.len() != w.len() {
            let (what, got, expected) = ("weight_absmax", w.len(), a.len());
            return Err(ComputeError::Length { row, what, got, expected });
        }
        finite_absmax(a, row)?;
        finite_absmax(w, row)?;
        let out = builder.push(a.len())?;
        for ((out, a), w) in out.iter_mut().zip(a).zip(w) {
            let (a, w) = (f64::from(a.abs()), f64::from(w.abs()));
            let factor = (a.powf(alpha) / w.max(LEAST).powf(1.0 - alpha)).max(LEAST);
            *out = factor.min(f64::from(f32::MAX)) as f32;
        }
        average_where_unfed(a, out);
    }
    builder.finish()
}

/// Gives channels that calibration never fed the geometric mean of the others' factors, or 1 where there are none: nothing
/// is known of such a channel, and as an average one it loses no more than without factors.
pub(super) fn average_where_unfed(act_absmax: &[f32], factors: &mut [f32]) {
    let fed = factors.iter().zip(act_absmax).filter(|(_, a)| **a != 0.0);
    let (sum, count) =
        fed.fold((0.0, 0u32), |(sum, count), (factor, _)| (sum + f64::from(*factor).ln(), count.saturating_add(1)));
    let average = if count == 0 { 1.0 } else { (sum / f64::from(count)).exp() as f32 };
    let unfed = factors.iter_mut().zip(act_absmax).filter(|(_, a)| **a == 0.0);
    unfed.for_each(|(factor, _)| *factor = average);
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::testing::arrays::list;

    #[test]
    fn zeros_are_guarded_and_alpha_is_checked() {
        let factors = equalization_factors(&list(&[Some(&[0.0, 1.0]), None]), &list(&[Some(&[1.0, 0.0]), None]), 0.5);
        assert_eq!(&factors.unwrap(), &list(&[Some(&[316.227_75, 316.227_75]), None]));
        let factors = equalization_factors(&list(&[Some(&[0.0, 0.0])]), &list(&[Some(&[1.0, 0.0])]), 0.5);
        assert_eq!(&factors.unwrap(), &list(&[Some(&[1.0, 1.0])]));
        let factors = equalization_factors(&list(&[Some(&[4.0, 0.0, 1.0])]), &list(&[Some(&[1.0, 1.0, 1.0])]), 0.5);
        assert_eq!(&factors.unwrap(), &list(&[Some(&[2.0, std::f32::consts::SQRT_2, 1.0])]));
        for alpha in [-0.1, 1.1, f64::NAN] {
            let error = equalization_factors(&list(&[None]), &list(&[None]), alpha).unwrap_err();
            assert_eq!(error.to_string(), format!("alpha must be in 0 to 1, not {alpha}"));
        }
    }

    #[test]
    fn factors_of_the_ends_of_f32_and_one_over_them_are_finite_and_above_zero() {
        let ends = [0.0, -0.0, f32::from_bits(1), f32::MIN_POSITIVE, 1.0, f32::MAX, -f32::MAX];
        for alpha in [0.0, 0.001, 0.5, 0.999, 1.0] {
            for weight in ends {
                let weights = [weight; 7];
                let factors = equalization_factors(&list(&[Some(&ends)]), &list(&[Some(&weights)]), alpha).unwrap();
                let factors = factors.as_list::<i32>().value(0);
                for factor in factors.as_primitive::<Float32Type>().values() {
                    let both = [*factor, 1.0 / factor];
                    assert!(both.iter().all(|x| *x > 0.0 && x.is_finite()), "{alpha} {weight} {factor}");
                }
            }
        }
    }
}
