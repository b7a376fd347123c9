//! The formats of parts.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::OptionsError;

/// The format of the files that hold parts: rows of the [quantized weights table](super::output::output_schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = OptionsError, parse_err_fn = unknown)]
pub enum PartFormat {
    /// Apache Parquet.
    Parquet,
    /// The Arrow IPC file format.
    Arrow,
}

impl PartFormat {
    /// Every format.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the name, which is the extension of a part.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown(text: &str) -> OptionsError {
    OptionsError::new(format!("parts are parquet or arrow, not '{text}'"))
}
