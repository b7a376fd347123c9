//! The difference between a tensor of one model and that of the other.

use crate::types::ErrorSums;

/// The difference of one tensor of the reference.
#[derive(Debug, Clone)]
pub enum Difference {
    /// Only one of the two models has it.
    Missing {
        /// True if the candidate is the one that lacks it.
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
