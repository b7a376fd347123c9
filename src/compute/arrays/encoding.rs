//! The parts that encoding and decoding of rows share.

use crate::{compute::ComputeError, types::Encoding};

/// Returns the bytes of a row.
pub(in crate::compute) fn row_bytes(encoding: Encoding, length: usize) -> Result<usize, ComputeError> {
    encoding.row_bytes(length).ok_or_else(|| {
        ComputeError::InvalidArgument(format!("a row of {length} weights cannot be stored as {encoding}"))
    })
}

/// Returns the value of a row, where there is one for all rows or one for each.
pub(in crate::compute) fn for_row<T: Copy>(values: &[Option<T>], row: usize) -> Option<T> {
    values.get(if values.len() == 1 { 0 } else { row }).copied().flatten()
}

/// Checks the number of values.
///
/// # Errors
/// Returns an error unless there is one for all rows, or one for each.
pub(in crate::compute) fn check_count(what: &str, got: usize, rows: usize) -> Result<(), ComputeError> {
    if got == rows || got == 1 {
        return Ok(());
    }
    Err(ComputeError::InvalidArgument(format!("{what} has {got} rows where there are {rows}")))
}
