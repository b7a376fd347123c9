//! The formats of parts.

use std::{fmt, str::FromStr};

use super::OptionsError;

/// The format of the files that hold parts: rows of the [quantized weights table](super::output::output_schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartFormat {
    /// Apache Parquet.
    Parquet,
    /// The Arrow IPC file format.
    Arrow,
}

impl PartFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Parquet, Self::Arrow];

    /// Returns the name, which is the extension of a part.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }
}

impl fmt::Display for PartFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PartFormat {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let found = Self::ALL.into_iter().find(|format| format.name() == text);
        found.ok_or_else(|| OptionsError::new(format!("parts are parquet or arrow, not '{text}'")))
    }
}
