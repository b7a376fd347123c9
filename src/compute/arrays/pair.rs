//! Two arrays side by side, each of rows of floats or of quantized values.

use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::{
    quantized::QuantizedArray,
    rows::{Rows, finite_absmax},
};
use crate::{
    compute::{ComputeError, dequantize as dequantize_array},
    kernels::{
        dequantize::dequantize,
        error_stats::{error_stats, error_stats_of_codes},
    },
    types::ErrorSums,
};

enum Side<'a> {
    Rows(Rows<'a>),
    Quantized(QuantizedArray<'a>),
}

/// Decodes an array that has entropy-coded values, all rows side by side; `None` if it has none.
fn decoded(array: &dyn Array) -> Result<Option<ArrayRef>, ComputeError> {
    if !matches!(array.data_type(), DataType::Struct(_)) || !QuantizedArray::try_new(array)?.has_entropy() {
        return Ok(None);
    }
    dequantize_array(array).map(Some)
}

impl<'a> Side<'a> {
    fn try_new(array: &'a dyn Array, what: &str) -> Result<Self, ComputeError> {
        match array.data_type() {
            DataType::Struct(_) => QuantizedArray::try_new(array).map(Self::Quantized),
            _ => Rows::try_new(array, what).map(Self::Rows),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Quantized(quantized) => quantized.len(),
        }
    }

    fn row<'s>(&'s self, row: usize, scratch: &'s mut Vec<f32>) -> Result<Option<&'s [f32]>, ComputeError> {
        let values: &[f32] = match self {
            Self::Rows(rows) => match rows.row(row, scratch)? {
                None => return Ok(None),
                Some(values) => values,
            },
            Self::Quantized(quantized) => match quantized.packed(row, "a measure")? {
                None => return Ok(None),
                Some((bits, params, codes)) => {
                    scratch.resize(params.length, 0.0);
                    dequantize(codes, &params.with_bits(bits), scratch);
                    scratch
                }
            },
        };
        Ok(Some(values))
    }
}

/// Returns the result of `measure` for each pair of rows; null where either row is null.
///
/// `proves_finite` says of a measure that it could not have come of rows with an infinity or NaN. Where it does not, the
/// rows are looked at.
///
/// # Errors
/// Returns an error if either array is of another type, if the numbers of rows or the lengths of two rows differ, if a
/// quantized value is corrupt, or if an element is null, infinite or NaN.
pub(in crate::compute) fn measure_pairs<T>(
    a: &dyn Array,
    b: &dyn Array,
    measure: impl Fn(&[f32], &[f32]) -> T,
    proves_finite: impl Fn(&T) -> bool,
) -> Result<Vec<Option<T>>, ComputeError> {
    let (a_decoded, b_decoded) = (decoded(a)?, decoded(b)?);
    let (a, b) = (a_decoded.as_deref().unwrap_or(a), b_decoded.as_deref().unwrap_or(b));
    measure_sides(&Side::try_new(a, FIRST)?, &Side::try_new(b, SECOND)?, measure, proves_finite)
}

fn measure_sides<T>(
    a: &Side,
    b: &Side,
    measure: impl Fn(&[f32], &[f32]) -> T,
    proves_finite: impl Fn(&T) -> bool,
) -> Result<Vec<Option<T>>, ComputeError> {
    check_rows(a.len(), b.len())?;
    let (mut a_scratch, mut b_scratch) = (Vec::new(), Vec::new());
    let mut measures = Vec::with_capacity(a.len());
    for row in 0..a.len() {
        let (Some(a), Some(b)) = (a.row(row, &mut a_scratch)?, b.row(row, &mut b_scratch)?) else {
            measures.push(None);
            continue;
        };
        check_lengths(row, a.len(), b.len())?;
        let measured = measure(a, b);
        if !proves_finite(&measured) {
            finite_absmax(a, row)?;
            finite_absmax(b, row)?;
        }
        measures.push(Some(measured));
    }
    Ok(measures)
}

/// Returns the error statistics of each pair of rows, as [`measure_pairs`] would give them.
///
/// # Errors
/// Returns the errors of [`measure_pairs`].
pub(in crate::compute) fn pair_stats(a: &dyn Array, b: &dyn Array) -> Result<Vec<Option<ErrorSums>>, ComputeError> {
    // Squares of f32 do not overflow f64: the sums are finite when all elements are.
    let finite = |stats: &ErrorSums| stats.a2.is_finite() && stats.b2.is_finite();
    let (a_decoded, b_decoded) = (decoded(a)?, decoded(b)?);
    let (a, b) = (a_decoded.as_deref().unwrap_or(a), b_decoded.as_deref().unwrap_or(b));
    let (a, b) = (Side::try_new(a, FIRST)?, Side::try_new(b, SECOND)?);
    let (Side::Rows(rows), Side::Quantized(quantized)) = (&a, &b) else {
        return measure_sides(&a, &b, error_stats, finite);
    };
    check_rows(rows.len(), quantized.len())?;
    let mut scratch = Vec::new();
    let mut measures = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let value = quantized.packed(row, "a measure")?;
        let (Some(weights), Some((bits, params, codes))) = (rows.row(row, &mut scratch)?, value) else {
            measures.push(None);
            continue;
        };
        check_lengths(row, weights.len(), params.length)?;
        let stats = error_stats_of_codes(weights, codes, &params.with_bits(bits));
        if !finite(&stats) {
            finite_absmax(weights, row)?;
            finite_absmax(b.row(row, &mut Vec::new())?.unwrap_or_default(), row)?;
        }
        measures.push(Some(stats));
    }
    Ok(measures)
}

/// The names of the arguments in errors.
const FIRST: &str = "the first argument";
const SECOND: &str = "the second argument";

fn check_rows(a: usize, b: usize) -> Result<(), ComputeError> {
    if a == b {
        return Ok(());
    }
    let problem = format!("arguments must have the same number of rows, got {a} and {b}");
    Err(ComputeError::InvalidArgument(problem))
}

fn check_lengths(row: usize, expected: usize, got: usize) -> Result<(), ComputeError> {
    if got == expected { Ok(()) } else { Err(ComputeError::Length { row, what: SECOND, got, expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compute::{cosine_similarity, dequantize, error_stats, mse, quantize, sqnr},
        testing::{
            arrays::{TWO_GROUPS, array, list, two_groups},
            samples,
        },
        types::{Bits, QuantizeOptions},
    };

    #[test]
    fn either_side_may_be_floats_or_quantized() {
        let row = samples::heavy(300, 4);
        let weights = list(&[Some(&row), None, Some(&row[..7]), Some(&[])]);
        let quantized = quantize(&weights, &QuantizeOptions::new(Bits::Three).into()).unwrap();
        let decoded = dequantize(&quantized).unwrap();
        for measure in [cosine_similarity, mse, sqnr] {
            let want = measure(&weights, &decoded).unwrap();
            assert!(want.is_null(1) && want.is_valid(3));
            assert_eq!(&measure(&weights, &quantized).unwrap(), &want);
            assert_eq!(&measure(&quantized, &weights).unwrap(), &measure(&decoded, &weights).unwrap());
            assert_eq!(&measure(&quantized, &quantized).unwrap(), &measure(&decoded, &decoded).unwrap());
        }
        let stats = error_stats(&weights, &quantized).unwrap();
        assert_eq!(&stats, &error_stats(&weights, &decoded).unwrap());
        assert_eq!(mse(&quantized, &weights).unwrap(), mse(&weights, &quantized).unwrap());
    }

    #[test]
    fn values_by_hand() {
        let shifted = list(&[Some(&TWO_GROUPS.map(|w| w + 0.5))]);
        let quantized = array(&[Some(two_groups())]);
        assert_eq!(mse(&quantized, &shifted).unwrap().value(0), 0.25);
        assert_eq!(mse(&shifted, &quantized).unwrap().value(0), 0.25);
        // The squares of the quantized value add up to 3.875.
        assert_eq!(sqnr(&quantized, &shifted).unwrap().value(0), 10.0 * (3.875f64 / 2.0).log10());
        assert_eq!(sqnr(&quantized, &quantized).unwrap().value(0), f64::INFINITY);
    }

    #[test]
    fn sides_that_do_not_match_are_refused() {
        let quantized = array(&[Some(two_groups()), Some(two_groups())]);
        let error = |a: &dyn Array, b: &dyn Array| mse(a, b).unwrap_err().to_string();
        let weights = list(&[Some(&TWO_GROUPS), Some(&TWO_GROUPS[..3])]);
        assert_eq!(error(&quantized, &weights), "row 1: the second argument has 3 elements where 8 are expected");
        assert!(
            error(&quantized, &weights.slice(0, 1))
                .contains("arguments must have the same number of rows, got 2 and 1")
        );
        let nan = list(&[Some(&[f32::NAN; 8]), None]);
        assert!(error(&nan, &quantized).contains("row 0, element 0 is NaN"));
        assert!(error(&quantized, &nan).contains("row 0, element 0 is NaN"));
        for (what, bad) in [("NaN", f32::NAN), ("inf", f32::INFINITY), ("-inf", f32::NEG_INFINITY)] {
            for other in [0.0, 1.0, f32::MAX, bad] {
                let (bad, other) = (list(&[Some(&[1.0, bad])]), list(&[Some(&[0.0, other])]));
                for measure in [cosine_similarity, mse, sqnr] {
                    for result in [measure(&bad, &other), measure(&other, &bad)] {
                        let message = result.unwrap_err().to_string();
                        assert!(message.starts_with(&format!("row 0, element 1 is {what};")), "{message}");
                    }
                }
                assert!(error_stats(&bad, &other).is_err() && error_stats(&other, &bad).is_err());
            }
        }
        assert!(error(&quantized, &arrow_array::StringArray::from(vec!["x", "y"])).starts_with("the second argument"));
    }
}
