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

/// The words that say it, as a command line or a call gives them.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExistingFlags {
    /// Go on with the unfinished run.
    pub resume: bool,
    /// Begin anew.
    pub overwrite: bool,
    /// Begin anew, whatever else the output folder holds.
    pub force: bool,
}

impl ExistingFlags {
    /// Returns what the words mean together.
    ///
    /// # Errors
    /// Returns an error if they do not go together.
    pub const fn existing(self) -> Result<Existing, &'static str> {
        match (self.resume, self.overwrite, self.force) {
            (true, true, _) => Err("`resume` cannot be used with `overwrite`"),
            (_, false, true) => Err("`force` needs `overwrite`"),
            (true, false, false) => Ok(Existing::Resume),
            (false, true, false) => Ok(Existing::Overwrite),
            (false, true, true) => Ok(Existing::Force),
            (false, false, false) => Ok(Existing::Refuse),
        }
    }
}

impl Existing {
    /// Tells whether the output that is there goes when the new one is complete.
    pub(in crate::output) const fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Force)
    }
}
