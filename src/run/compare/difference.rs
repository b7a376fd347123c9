//! How far a tensor of one model lies from that of the other.

use crate::storage::folder::error_sums::ErrorSums;

/// What became of one tensor of the reference.
#[derive(Debug, Clone)]
pub enum Difference {
    /// Only one of the two models has it.
    Missing {
        /// Whether the one that lacks it is the candidate.
        in_candidate: bool,
    },
    /// The two have different shapes, this one and that of the candidate.
    Shape(Vec<usize>, Vec<usize>),
    /// The stored bytes are the same.
    Identical,
    /// The stored bytes differ, and the tensor is not one of floats.
    Bytes,
    /// The error sums over all rows.
    Error(ErrorSums),
}
