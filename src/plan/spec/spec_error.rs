//! The error of an option.

use std::fmt;

use crate::storage::error::IoError;

/// An option that is not accepted, or not beside another.
///
/// The message names options in backticks, for [`spell`](crate::plan::spec::spelling::spell) to give them the spelling of
/// the face that shows it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    /// The name of the field of [`Spec`](crate::plan::spec::Spec); empty if the spec as a whole is wrong.
    pub field: String,
    /// The problem, to be read after the name of the field.
    pub problem: String,
}

impl SpecError {
    /// Makes the error of a field.
    pub fn new(field: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), problem: problem.into() }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() { f.write_str(&self.problem) } else { write!(f, "`{}` {}", self.field, self.problem) }
    }
}

impl From<SpecError> for IoError {
    fn from(error: SpecError) -> Self {
        Self::Request(error.to_string())
    }
}
