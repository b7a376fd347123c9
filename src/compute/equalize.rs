//! `equalize`: rows of weights times a factor per input channel.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    list::ListBuilder,
    rows::{Rows, finite_absmax},
};

/// Multiplies each row of `weights` by a row of `factors`, element by element, in f32.
///
/// Both are list arrays of floats; `factors` has one row, for all rows of weights, or one for each. The result is
/// `List<Float32>`; a null on either side gives null.
///
/// # Errors
/// When either array is of another type, when numbers of rows or lengths differ, or when an element, or a product,
/// is null, infinite or NaN.
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
    let (rows, factors) = (Rows::try_new(weights, "weights")?, Rows::try_new(factors, "factors")?);
    if factors.len() != rows.len() && factors.len() != 1 {
        return Err(ComputeError::InvalidArgument(format!(
            "factors must have 1 row or {}, as many as weights, not {}",
            rows.len(),
            factors.len()
        )));
    }
    let mut builder = ListBuilder::<Float32Type>::with_capacity(rows.len(), 0);
    let (mut widened, mut widened_factors) = (Vec::new(), Vec::new());
    for row in 0..rows.len() {
        let factor_row = if factors.len() == 1 { 0 } else { row };
        let (Some(weights), Some(factors)) =
            (rows.row(row, &mut widened)?, factors.row(factor_row, &mut widened_factors)?)
        else {
            builder.push_null();
            continue;
        };
        if weights.len() != factors.len() {
            let (what, got, expected) = ("factors", factors.len(), weights.len());
            return Err(ComputeError::Length { row, what, got, expected });
        }
        let out = builder.push(weights.len())?;
        for ((out, w), factor) in out.iter_mut().zip(weights).zip(factors) {
            *out = w * factor;
        }
        // An infinity or NaN on either side ends in the product.
        finite_absmax(out, row)?;
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::{super::rows::tests::list, *};

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
}
