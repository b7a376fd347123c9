//! `equalize`: rows of weights times a factor per input channel.

use arrow_array::{Array, ArrayRef, Int64Array, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        rows::{Rows, finite_absmax},
    },
};

/// Multiplies each row of `weights` by a row of `factors`, element by element, in f32.
///
/// Both are list arrays of floats; `factors` has one row, for all rows of weights, or one for each. The result is
/// `List<Float32>`; a null on either side gives null.
///
/// # Errors
/// Returns an error if either array is of another type, if numbers of rows or lengths differ, or if an element, or a
/// product, is null, infinite or NaN.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, cast::AsArray, types::Float32Type};
///
/// let list = |row: [f32; 2]| ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.map(Some))]);
/// let product = arrow_quant::compute::equalize(&list([1.0, 2.0]), &list([3.0, 0.5]))?;
/// assert_eq!(product.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[3.0, 1.0][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn equalize(weights: &dyn Array, factors: &dyn Array) -> Result<ArrayRef, ComputeError> {
    multiply(weights, factors, None, None)
}

/// Does the same as [`equalize`], each row multiplied by a number of its own as well, and then shifted: the weights
/// become `weight * factor * row_factors[channel] + offset`, one operation after the other in f32.
///
/// `channels` says which row of its tensor each row is; `row_factors` has a number for each row of the tensor, `offsets` one
/// for each weight. Both are list arrays of floats with one row, for all rows of weights, or one for each. Where one is null it
/// changes nothing; a null weight, factor or channel gives null.
///
/// # Errors
/// Returns the errors of [`equalize`]; also an error if a tensor has no such row.
pub fn equalize_rows(
    weights: &dyn Array,
    factors: &dyn Array,
    channels: &Int64Array,
    row_factors: &dyn Array,
    offsets: Option<&dyn Array>,
) -> Result<ArrayRef, ComputeError> {
    multiply(weights, factors, Some((channels, row_factors)), offsets)
}

fn multiply(
    weights: &dyn Array,
    factors: &dyn Array,
    of_rows: Option<(&Int64Array, &dyn Array)>,
    offsets: Option<&dyn Array>,
) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    let factors = shared(factors, "factors", rows.len())?;
    let of_rows = match of_rows {
        Some((channels, row_factors)) => {
            check_rows("channels", channels.len(), rows.len())?;
            Some((channels, shared(row_factors, "row_factors", rows.len())?))
        }
        None => None,
    };
    let offsets = offsets.map(|offsets| shared(offsets, "offsets", rows.len())).transpose()?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(rows.len(), 0);
    let mut scratch: [Vec<f32>; 4] = Default::default();
    let [widened, widened_factors, widened_row_factors, widened_offsets] = &mut scratch;
    for row in 0..rows.len() {
        let of = |shared: &Rows<'_>| if shared.len() == 1 { 0 } else { row };
        let row_factor = match &of_rows {
            None => Some(1.0),
            Some((channels, row_factors)) => match row_factors.row(of(row_factors), widened_row_factors)? {
                Some(factors) => row_factor(channels, factors, row)?,
                None => Some(1.0),
            },
        };
        let added = match &offsets {
            None => None,
            Some(offsets) => offsets.row(of(offsets), widened_offsets)?,
        };
        let (Some(weights), Some(factors), Some(row_factor)) =
            (rows.row(row, widened)?, factors.row(of(&factors), widened_factors)?, row_factor)
        else {
            builder.push_null();
            continue;
        };
        for (what, given) in [("factors", Some(factors)), ("offsets", added)] {
            if let Some(got) = given.map(<[f32]>::len).filter(|got| *got != weights.len()) {
                return Err(ComputeError::Length { row, what, got, expected: weights.len() });
            }
        }
        let out = builder.push(weights.len())?;
        for ((out, w), factor) in out.iter_mut().zip(weights).zip(factors) {
            *out = w * factor * row_factor;
        }
        for (out, offset) in out.iter_mut().zip(added.unwrap_or(&[])) {
            *out += offset;
        }
        // An infinity or NaN on any side ends in the result.
        finite_absmax(out, row)?;
    }
    builder.finish()
}

/// Returns an array with one row for all rows of weights, or one for each.
fn shared<'a>(array: &'a dyn Array, what: &'static str, weights: usize) -> Result<Rows<'a>, ComputeError> {
    let rows = Rows::try_new(array, what)?;
    check_rows(what, rows.len(), weights)?;
    Ok(rows)
}

fn check_rows(what: &str, got: usize, weights: usize) -> Result<(), ComputeError> {
    if got == weights || got == 1 {
        return Ok(());
    }
    let problem = format!("{what} must have 1 row or {weights}, as many as weights, not {got}");
    Err(ComputeError::InvalidArgument(problem))
}

/// Returns the factor of a row of weights, of those of its tensor; none where either is null.
fn row_factor(channels: &Int64Array, factors: &[f32], row: usize) -> Result<Option<f32>, ComputeError> {
    let at = if channels.len() == 1 { 0 } else { row };
    if channels.is_null(at) {
        return Ok(None);
    }
    let channel = channels.value(at);
    let factor = usize::try_from(channel).ok().and_then(|channel| factors.get(channel));
    factor.copied().map(Some).ok_or_else(|| {
        let count = factors.len();
        ComputeError::InvalidArgument(format!("row {row}: the channel is {channel}, and there are {count} row_factors"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arrays::list;

    #[test]
    fn nulls_lengths_and_overflow_have_a_rule() {
        let weights = list(&[Some(&[1.0, 2.0]), None, Some(&[3.0, f32::MAX])]);
        let product = equalize(&weights, &list(&[Some(&[0.5, -1.0])])).unwrap();
        assert_eq!(&product, &list(&[Some(&[0.5, -2.0]), None, Some(&[1.5, -f32::MAX])]));
        let error = equalize(&weights, &list(&[Some(&[1.0, 4.0])])).unwrap_err();
        assert!(matches!(error, ComputeError::NonFinite { row: 2, element: 1, .. }), "{error}");
        let error = equalize(&weights, &list(&[Some(&[1.0])])).unwrap_err();
        assert_eq!(error.to_string(), "row 0: factors has 1 elements where 2 are expected");
        assert!(equalize(&weights, &list(&[None, None])).is_err());
    }

    #[test]
    fn rows_have_a_factor_and_an_offset_of_their_own() {
        let weights = list(&[Some(&[1.0, 2.0]), None, Some(&[3.0, 4.0]), Some(&[5.0, 6.0])]);
        let factors = list(&[Some(&[2.0, 0.5])]);
        let channels = Int64Array::from(vec![Some(1), Some(0), Some(0), None]);
        let rows = list(&[Some(&[10.0, 100.0])]);
        let product = equalize_rows(&weights, &factors, &channels, &rows, None).unwrap();
        assert_eq!(&product, &list(&[Some(&[200.0, 100.0]), None, Some(&[60.0, 20.0]), None]));
        let offsets = list(&[Some(&[1.0, -1.0])]);
        let shifted = equalize_rows(&weights, &factors, &channels, &rows, Some(&offsets)).unwrap();
        assert_eq!(&shifted, &list(&[Some(&[201.0, 99.0]), None, Some(&[61.0, 19.0]), None]));
        // One for each row of weights; where there is none, 1.
        let each = list(&[Some(&[1.0, 1.0]), None, None, Some(&[1.0, 1.0])]);
        let product = equalize_rows(&weights, &factors, &channels, &each, Some(&offsets)).unwrap();
        assert_eq!(&product, &list(&[Some(&[3.0, 0.0]), None, Some(&[7.0, 1.0]), None]));
        let error = |channels, rows, offsets| {
            equalize_rows(&weights, &factors, &channels, &rows, Some(&offsets)).unwrap_err().to_string()
        };
        let none = Int64Array::from(vec![0, 0, 2, 0]);
        assert_eq!(
            error(none, list(&[Some(&[1.0, 1.0])]), list(&[Some(&[0.0; 2])])),
            "row 2: the channel is 2, and there are 2 row_factors"
        );
        assert_eq!(
            error(channels.clone(), list(&[Some(&[1.0, 1.0])]), list(&[Some(&[0.0])])),
            "row 0: offsets has 1 elements where 2 are expected"
        );
        let two = list(&[Some(&[1.0]), None]);
        assert!(error(channels, two, list(&[None])).starts_with("row_factors must have 1 row or 4"));
    }
}
