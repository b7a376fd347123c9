//! The name of a format, as an option has it.

use std::fmt;

/// The name of one of the formats of [`formats::ALL`](crate::plan::formats::ALL), which [`Spec::check`](super::Spec::check)
/// looks up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct FormatName(String);

impl Default for FormatName {
    fn default() -> Self {
        Self::from("parquet")
    }
}

impl From<&str> for FormatName {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}

impl AsRef<str> for FormatName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FormatName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
