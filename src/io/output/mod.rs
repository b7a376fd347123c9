//! The output folder: parts, manifest and report, written beside and renamed.

mod content;
mod folder;
mod manifest;
pub(in crate::io) mod part;
mod part_reader;
mod report;
mod row_files;
mod row_group;
mod row_order;
mod unsettled;

use std::{fmt, fs::File, io::Write, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};

pub use folder::{Existing, OutputFolder};
pub use manifest::{
    EQUALIZATION_DIGEST, EQUALIZED_VERSION, FORMAT_VERSION, FileEntry, MANIFEST, Manifest, PartEntry, Source,
    TensorEntry, part_file,
};
pub use part::{PartWriter, WrittenPart};
pub use part_reader::{PartReader, read_report};
pub use report::{ErrorSums, REPORT, TensorReport, Totals, merge, report_batch, totals, write_report, write_table};
pub use row_files::{ENCODED, RowFiles, RowWriter};
pub use unsettled::{Unsettled, read_back};

use super::IoError;

/// The name of the activation quantizers in an output folder.
pub const ACTIVATION_PARAMS: &str = "activation_params.parquet";
/// The name of the factors by which an equalized model's channels were multiplied, in an output folder.
pub const EQUALIZATION: &str = "equalization.parquet";

/// The format of the files that hold the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// Parts in Apache Parquet.
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
    type Err = IoError;

    fn from_str(text: &str) -> Result<Self, IoError> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            IoError::Request(format!("the format must be one of {names}, not '{text}'"))
        })
    }
}

/// Writes a small file so that it is there whole or not at all.
fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = File::create(temporary).map_err(IoError::system("create", temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(IoError::system("write", temporary))?;
    std::fs::rename(temporary, path).map_err(IoError::system("rename into place", path))
}
