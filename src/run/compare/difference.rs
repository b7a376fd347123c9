//! The difference between a tensor of one model and that of the other.

use std::fmt;

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

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missing { in_candidate: true } => f.write_str("missing in the candidate"),
            Self::Missing { in_candidate: false } => f.write_str("missing in the reference"),
            Self::Shape(shape, other) => write!(f, "shape {shape:?}, in the candidate {other:?}"),
            Self::Identical => f.write_str("identical"),
            Self::Bytes => f.write_str("the stored bytes differ"),
            Self::Error(_) => f.write_str("differs"),
        }
    }
}
