//! Options that hold for all rows, or one for each.

use crate::{compute::ComputeError, types::QuantizeOptions};

/// The options of every row of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowOptions {
    /// The same for all rows.
    Same(QuantizeOptions),
    /// One for each row; a row without options gives null.
    PerRow(Vec<Option<QuantizeOptions>>),
}

impl From<QuantizeOptions> for RowOptions {
    fn from(options: QuantizeOptions) -> Self {
        Self::Same(options)
    }
}

impl RowOptions {
    /// Returns the options of a row.
    pub fn get(&self, row: usize) -> Option<QuantizeOptions> {
        match self {
            Self::Same(options) => Some(*options),
            Self::PerRow(options) => options.get(row).copied().flatten(),
        }
    }

    /// Checks the number of rows.
    ///
    /// # Errors
    /// Returns [`ComputeError::InvalidArgument`] unless there are options for exactly `rows` rows.
    pub(in crate::compute) fn check_len(&self, rows: usize) -> Result<(), ComputeError> {
        match self {
            Self::PerRow(options) if options.len() != rows => Err(ComputeError::InvalidArgument(format!(
                "options are given for {} rows where there are {rows}",
                options.len()
            ))),
            _ => Ok(()),
        }
    }
}
