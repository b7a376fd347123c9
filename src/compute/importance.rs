//! How much each input channel matters to the search for parameters.

use arrow_array::Array;

use super::{ComputeError, rows::Rows, rows::finite_absmax};

/// One row of importances for all rows of weights, or one for each; or none at all.
pub(super) struct Importance<'a> {
    rows: Option<Rows<'a>>,
    widened: Vec<f32>,
}

impl<'a> Importance<'a> {
    /// # Errors
    /// [`ComputeError::InvalidArgument`] when the array is not a list of floats, or has another number of rows.
    pub(super) fn try_new(array: Option<&'a dyn Array>, weights: usize) -> Result<Self, ComputeError> {
        let rows = array.map(|array| Rows::try_new(array, "importance")).transpose()?;
        match rows.as_ref().map(Rows::len) {
            Some(len) if len != 1 && len != weights => Err(ComputeError::InvalidArgument(format!(
                "importance must have 1 row or {weights}, as many as there are rows of weights, not {len}"
            ))),
            _ => Ok(Self { rows, widened: Vec::new() }),
        }
    }

    /// The importances for a row of `length` weights; `None` where all weigh alike.
    ///
    /// # Errors
    /// When they are not `length` finite numbers of at least 0.
    pub(super) fn row(&mut self, row: usize, length: usize) -> Result<Option<&[f32]>, ComputeError> {
        let Some(rows) = &self.rows else { return Ok(None) };
        let Some(values) = rows.row(if rows.len() == 1 { 0 } else { row }, &mut self.widened)? else { return Ok(None) };
        if values.len() != length {
            return Err(ComputeError::Length { row, what: "importance", got: values.len(), expected: length });
        }
        finite_absmax(values, row)?;
        match values.iter().position(|value| *value < 0.0) {
            Some(element) => Err(ComputeError::InvalidArgument(format!(
                "importance must not be negative; row {row}, element {element} is {}",
                values[element]
            ))),
            None => Ok(Some(values)),
        }
    }
}
