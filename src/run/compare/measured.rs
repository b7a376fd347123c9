//! The result of the recipe that compares rows, of a part of a tensor or of all.

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Float64Type};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::difference::Difference;
use crate::{sql::tables::external, storage::error::IoError, types::ErrorSums};

/// The result of the recipe.
#[derive(Debug)]
pub struct Measured {
    /// True if the stored bytes are the same.
    pub same: bool,
    /// The error sums, where the rows are floats.
    pub errors: Option<ErrorSums>,
    /// The reason why rows that are the same have no sums.
    pub refused: Option<IoError>,
}

impl Measured {
    /// Reads the result of one tensor from a row of the recipe's.
    ///
    /// # Errors
    /// Returns an error if a column is missing.
    pub fn of(rows: &RecordBatch, row: usize) -> Result<Self> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| internal_datafusion_err!("the recipe gives no column {name}"))
        };
        let same = column("same")?.as_boolean();
        let figure = |name: &str| {
            let figure = column(name)?.as_primitive::<Float64Type>();
            Ok::<_, DataFusionError>(figure.is_valid(row).then(|| figure.value(row)))
        };
        let value = |name: &str| Ok::<_, DataFusionError>(figure(name)?.unwrap_or_default());
        let errors = match figure("err2")? {
            None => None,
            Some(err2) => Some(ErrorSums {
                dot: value("dot")?,
                a2: value("a2")?,
                b2: value("b2")?,
                err2,
                max_abs: value("max_abs")?,
                n: value("n")? as u64,
            }),
        };
        Ok(Self { same: same.is_valid(row) && same.value(row), errors, refused: None })
    }

    /// Returns both together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let errors = match (self.errors, other.errors) {
            (Some(errors), Some(others)) => Some(errors.merge(others)),
            (errors, others) => errors.or(others),
        };
        Self { same: self.same && other.same, errors, refused: self.refused.or(other.refused) }
    }

    /// Returns the difference of the tensor.
    ///
    /// # Errors
    /// Returns an error if some of its bytes differ, and others stand for weights that are not finite.
    pub fn difference(self) -> Result<Difference> {
        match (self.errors, self.refused) {
            _ if self.same => Ok(Difference::Identical),
            (_, Some(refused)) => Err(external(refused)),
            (None, None) => Ok(Difference::Bytes),
            (Some(errors), None) => Ok(Difference::Error(errors)),
        }
    }
}
