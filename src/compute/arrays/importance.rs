//! The importance of each input channel to the search for parameters.

use arrow_array::Array;

use super::rows::Rows;
use crate::compute::ComputeError;

/// One row of importances for all rows of weights, or one for each; or none at all.
pub(in crate::compute) struct Importance<'a> {
    rows: Option<Rows<'a>>,
    widened: Vec<f32>,
}

impl<'a> Importance<'a> {
    /// Views an array of importances for `weights` rows; `None` means that all weigh alike.
    ///
    /// # Errors
    /// Returns [`ComputeError::InvalidArgument`] if the array is not a list of floats, or has another number of rows.
    pub(in crate::compute) fn try_new(array: Option<&'a dyn Array>, weights: usize) -> Result<Self, ComputeError> {
        let rows = array.map(|array| Rows::try_new(array, "importance")).transpose()?;
        match rows.as_ref().map(Rows::len) {
            Some(len) if len != 1 && len != weights => Err(ComputeError::InvalidArgument(format!(
                "importance must have 1 row or {weights}, as many as there are rows of weights, not {len}"
            ))),
            _ => Ok(Self { rows, widened: Vec::new() }),
        }
    }

    /// Returns the importances for a row of `length` weights; `None` where all weigh alike.
    ///
    /// # Errors
    /// Returns an error if they are not `length` finite numbers of at least 0.
    pub(in crate::compute) fn row(&mut self, row: usize, length: usize) -> Result<Option<&[f32]>, ComputeError> {
        let Some(rows) = &self.rows else { return Ok(None) };
        let Some(values) = rows.row(if rows.len() == 1 { 0 } else { row }, &mut self.widened)? else { return Ok(None) };
        if values.len() != length {
            return Err(ComputeError::Length { row, what: "importance", got: values.len(), expected: length });
        }
        match values.iter().position(|value| !(*value >= 0.0 && value.is_finite())) {
            Some(element) => Err(ComputeError::InvalidArgument(format!(
                "importance must be finite and not negative; row {row}, element {element} is {}",
                values[element]
            ))),
            None => Ok(Some(values)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;

    use super::*;
    use crate::{
        compute::{quant_params, quant_params_weighted, quantize, quantize_weighted},
        testing::{arrays::list, samples},
        types::{Bits, QuantizeOptions},
    };

    fn error(importance: &dyn Array) -> String {
        let weights = list(&[Some(&[1.0, 2.0]), None, Some(&[3.0, 4.0])]);
        let options = QuantizeOptions::new(Bits::Four).into();
        let error = quantize_weighted(&weights, importance, &options).unwrap_err().to_string();
        assert_eq!(quant_params_weighted(&weights, importance, &options).unwrap_err().to_string(), error);
        error
    }

    #[test]
    fn what_is_not_an_importance_is_refused_with_its_place() {
        let good: Option<&[f32]> = Some(&[1.0, 0.0]);
        for bad in [-1.0, f32::NAN, f32::INFINITY, -f32::INFINITY] {
            let want = format!("importance must be finite and not negative; row 2, element 1 is {bad}");
            assert_eq!(error(&list(&[good, good, Some(&[1.0, bad])])), want);
            // One row for all is to blame at the first that it is used for.
            assert!(error(&list(&[Some(&[1.0, bad])])).contains("row 0, element 1"));
        }
        assert_eq!(error(&list(&[good, good, Some(&[1.0])])), "row 2: importance has 1 elements where 2 are expected");
        assert!(error(&list(&[good, good])).contains("importance must have 1 row or 3"));
        assert!(error(&StringArray::from(vec!["x"])).starts_with("importance must be a list"));
    }

    #[test]
    fn equal_importances_weigh_as_none_and_unequal_ones_do_not() {
        let rows = [samples::heavy(200, 1), samples::heavy(200, 2)];
        let weights = list(&[Some(&rows[0]), Some(&rows[1])]);
        let options = QuantizeOptions::new(Bits::Three).into();
        let plain = quantize(&weights, &options).unwrap();
        let ones = [1.0; 200];
        for equal in [list(&[Some(&ones)]), list(&[Some(&ones), Some(&ones)]), list(&[None])] {
            assert_eq!(&quantize_weighted(&weights, &equal, &options).unwrap(), &plain);
        }
        let unequal: Vec<f32> = (0..200).map(|i| (i % 3) as f32).collect();
        let second = quantize_weighted(&weights, &list(&[None, Some(&unequal)]), &options).unwrap();
        assert_eq!(&second.slice(0, 1), &plain.slice(0, 1));
        assert_ne!(&second.slice(1, 1), &plain.slice(1, 1));
        let params = quant_params_weighted(&weights, &list(&[None, Some(&unequal)]), &options).unwrap();
        assert_ne!(&params, &quant_params(&weights, &options).unwrap());
    }
}
