//! `weight_equalization_factors`: equalization that looks at the weights alone.

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};

use super::{ComputeError, arrays::list::ListBuilder};

/// The least share of the mean of all channels that is divided by.
const LEAST: f64 = 1e-8;

/// Factors for each input channel `j` that bring the sizes of channels nearer to each other, so that weights which share a
/// scale are about as large: `(m / max(s_j, 1e-8 m))^(3/8)`, where `s_j` is the sum of the squares of the channel's weights
/// and `m` the mean of all `s`; 1 where all are 0. Weights are multiplied by them ([`equalize`](super::equalize)),
/// activations divided. Where the error of the weights as they were is to be least, the importance of a channel is one over
/// the square of its factor.
///
/// 3/8 is three quarters of a root: with all of it every channel would have the same ratio of signal to noise, where the
/// large ones count more.
///
/// `sum_squares` is `List<Float64>`, one number for each channel, none negative, as
/// [`ChannelStatistic::SumSquares`](super::ChannelStatistic::SumSquares) gives them. The result is `List<Float32>`; null
/// gives null.
///
/// # Errors
/// Returns an error if the array is of another type, or if an element is null, negative, infinite or NaN.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, cast::AsArray, types::{Float32Type, Float64Type}};
///
/// let squares = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([0.0, 1.0, 1.0, 510.0].map(Some))]);
/// let factors = arrow_quant::compute::weight_equalization_factors(&squares)?;
/// let factors = factors.as_list::<i32>().value(0);
/// assert_eq!(factors.as_primitive::<Float32Type>().values()[..3], [1000.0, 6.168_843_3, 6.168_843_3]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn weight_equalization_factors(sum_squares: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let accepted = || {
        let got = sum_squares.data_type();
        ComputeError::InvalidArgument(format!("sum_squares must be List<Float64>, not {got}"))
    };
    let lists = sum_squares.as_list_opt::<i32>().ok_or_else(accepted)?;
    lists.values().as_primitive_opt::<Float64Type>().ok_or_else(accepted)?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(lists.len(), 0);
    for row in 0..lists.len() {
        if lists.is_null(row) {
            builder.push_null();
            continue;
        }
        let sums = lists.value(row);
        let sums = sums.as_primitive::<Float64Type>();
        if let Some(element) = (0..sums.len()).find(|i| sums.is_null(*i)) {
            return Err(ComputeError::NullElement { row, element });
        }
        let sums = sums.values();
        if let Some(element) = sums.iter().position(|sum| !sum.is_finite()) {
            return Err(ComputeError::NonFinite { row, element, value: sums[element] as f32 });
        }
        if let Some(sum) = sums.iter().find(|sum| **sum < 0.0) {
            return Err(ComputeError::InvalidArgument(format!(
                "row {row}: a sum of squares is not negative, {sum} is"
            )));
        }
        // Shares of the largest: the sum of all may be infinite, and of denormal ones the mean or its share may be 0.
        let most = sums.iter().copied().fold(0.0, f64::max);
        let share = |sum: f64| if most > 0.0 { sum / most } else { 1.0 };
        let mean = sums.iter().map(|sum| share(*sum)).sum::<f64>() / sums.len() as f64;
        for (factor, sum) in builder.push(sums.len())?.iter_mut().zip(sums) {
            // Roots, unlike powers, have the same bits on every machine.
            let root = (mean / share(*sum).max(LEAST * mean)).sqrt().sqrt().sqrt();
            *factor = (root * root * root) as f32;
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use arrow_array::ListArray;

    use super::*;
    use crate::testing::arrays::list;

    fn wide(rows: &[Option<&[f64]>]) -> ListArray {
        let rows = rows.iter().map(|row| row.map(|row| row.iter().copied().map(Some).collect::<Vec<_>>()));
        ListArray::from_iter_primitive::<Float64Type, _, _>(rows)
    }

    #[test]
    fn channels_come_nearer_to_each_other_and_empty_ones_have_a_bound() {
        let sums: [Option<&[f64]>; 5] =
            [Some(&[256.0, 0.5, 0.5, 767.0]), Some(&[0.0; 2]), None, Some(&[]), Some(&[0.0, f64::MAX])];
        let factors = weight_equalization_factors(&wide(&sums)).unwrap();
        let factor = |sum: f64| (256.0 / sum).powf(0.375) as f32;
        let first = [1.0, factor(0.5), factor(0.5), factor(767.0)];
        let half = 0.5f64.powf(0.375) as f32;
        let expected = list(&[Some(&first), Some(&[1.0, 1.0]), None, Some(&[]), Some(&[1000.0, half])]);
        let [got, expected] = [&factors, &expected].map(|array| array.as_list::<i32>().clone());
        assert_eq!((got.offsets(), got.nulls()), (expected.offsets(), expected.nulls()));
        for (got, expected) in got
            .values()
            .as_primitive::<Float32Type>()
            .values()
            .iter()
            .zip(expected.values().as_primitive::<Float32Type>().values())
        {
            assert!((got / expected - 1.0).abs() < 3e-7, "{got} {expected}");
        }
    }

    #[test]
    fn factors_do_not_depend_on_the_scale_of_the_sums_and_are_finite_and_above_zero() {
        let factors = |sums: &[f64]| {
            let factors = weight_equalization_factors(&wide(&[Some(sums)])).unwrap();
            factors.as_list::<i32>().value(0).as_primitive::<Float32Type>().values().to_vec()
        };
        let expected = factors(&[0.0, 1.0, 1.0, 2.0]);
        let least = f64::from_bits(1);
        for unit in [least, 1e-320, f64::MIN_POSITIVE, 1e-200, 1e200, f64::MAX / 2.0] {
            assert_eq!(factors(&[0.0, unit, unit, 2.0 * unit]), expected, "{unit}");
        }
        for sums in
            [[0.0, least, 0.0], [least, least, least], [least, 1.0, f64::MAX], [f64::MAX; 3], [-0.0, 0.0, least]]
        {
            let factors = factors(&sums);
            assert!(factors.iter().all(|factor| *factor > 0.0 && *factor <= 1000.0), "{sums:?} {factors:?}");
            assert!(factors.iter().all(|factor| (1.0 / factor).is_finite()), "{sums:?} {factors:?}");
        }
        let wide = vec![least; 1 << 16];
        assert!(factors(&wide).iter().all(|factor| *factor == 1.0));
    }

    #[test]
    fn what_is_no_sum_of_squares_is_refused() {
        let error = |array: &dyn Array| weight_equalization_factors(array).unwrap_err().to_string();
        assert_eq!(error(&wide(&[Some(&[1.0]), Some(&[1.0, -2.0])])), "row 1: a sum of squares is not negative, -2 is");
        assert!(error(&wide(&[Some(&[f64::NAN])])).starts_with("row 0, element 0 is NaN"));
        assert!(error(&list(&[Some(&[1.0])])).starts_with("sum_squares must be List<Float64>, not "));
        let hole = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0), None])]);
        assert!(error(&hole).starts_with("row 0, element 1 is null"));
    }
}
