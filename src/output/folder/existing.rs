//! The choice for an output that is there already.

use serde::{Deserialize, Serialize};

/// The choice for an output, or an unfinished run of it, that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// Go on with the unfinished run, and replace what it was told to. It is an error if that had other options or sources;
    /// without one, begin.
    Resume,
    /// Begin anew; what is there is replaced when the new output is complete. Only output folders are replaced, and only
    /// those that hold nothing but what a run wrote.
    Overwrite,
    /// As [`Self::Overwrite`], and what else the output folder holds goes too.
    Force,
}

impl Existing {
    /// Tells whether the output that is there goes when the new one is complete.
    pub(in crate::output) const fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Force)
    }
}
