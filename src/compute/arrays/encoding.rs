//! The parts that encoding and decoding of rows share.

use crate::{
    compute::ComputeError,
    kernels::gguf::BlockType,
    types::{Block, Encoding},
};

/// Returns the kernels' word for a block type.
pub(in crate::compute) const fn kernel_type(block: Block) -> BlockType {
    match block {
        Block::Q4_0 => BlockType::Q4_0,
        Block::Q4_1 => BlockType::Q4_1,
        Block::Q5_0 => BlockType::Q5_0,
        Block::Q5_1 => BlockType::Q5_1,
        Block::Q8_0 => BlockType::Q8_0,
        Block::Q2_K => BlockType::Q2_K,
        Block::Q3_K => BlockType::Q3_K,
        Block::Q4_K => BlockType::Q4_K,
        Block::Q5_K => BlockType::Q5_K,
        Block::Q6_K => BlockType::Q6_K,
    }
}

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
