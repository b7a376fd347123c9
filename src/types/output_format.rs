//! The formats that a run writes.

use std::{fmt, str::FromStr};

use super::OptionsError;

/// The format of the files that hold the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Parts in Apache Parquet.
    #[default]
    Parquet,
    /// Parts in the Arrow IPC file format.
    Arrow,
    /// Safetensors, every tensor as floats.
    Safetensors,
    /// The pack-quantized format of compressed-tensors.
    #[serde(rename = "compressed-tensors")]
    CompressedTensors,
    /// GGUF, in the blocks of llama.cpp.
    Gguf,
}

impl OutputFormat {
    /// Every format.
    pub const ALL: [Self; 5] = [Self::Parquet, Self::Arrow, Self::Safetensors, Self::CompressedTensors, Self::Gguf];

    /// Those whose weights are in parts.
    pub const PARTS: [Self; 2] = [Self::Parquet, Self::Arrow];

    /// Whether the weights are in parts, quantized as this library does it.
    #[must_use]
    pub const fn has_parts(self) -> bool {
        matches!(self, Self::Parquet | Self::Arrow)
    }

    /// The name, which is the extension of parts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Safetensors => "safetensors",
            Self::CompressedTensors => "compressed-tensors",
            Self::Gguf => "gguf",
        }
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for OutputFormat {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            OptionsError::new(format!("the format must be one of {names}, not '{text}'"))
        })
    }
}
