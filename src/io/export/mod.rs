//! Formats that engines load: what becomes of each tensor, and where its rows lie, known before a weight is read.
//!
//! A format is a function that makes an [`Export`]: how the rows of each tensor are encoded, and a [`Layout`] of files
//! with a place for every row. The rest is the same for all formats: `sql/export.sql` encodes the rows, parts are the
//! unit of work, and [`RowWriter`](crate::io::output::RowWriter) puts each row in its place.

pub mod compressed_tensors;
mod export;
mod gather;
mod gguf;
mod layout;
mod safetensors;
pub mod shards;
mod target;
mod written;

pub use export::{Export, TensorExport};
pub use gather::{Container, RowGatherer};
pub use gguf::{EngineNames, GgufOptions, Misfit};
pub use layout::{Layout, PlannedFile};
pub use target::Target;
pub use written::Written;

use super::{Choice, IoError, Model};
use crate::types::OutputFormat;

/// Plans what `target` asks for; gives none for parts. The choices may change: a format that cannot hold a tensor quantized
/// so says why in its note.
///
/// # Errors
/// The format cannot hold the model, or an option is not one of it.
pub fn plan(model: &Model, choices: &mut [Choice], target: &Target) -> Result<Option<Export>, IoError> {
    if let Some(dtype) = target.dtype
        && target.format != OutputFormat::Safetensors
    {
        let problem = format!("--dtype {dtype} needs --format safetensors: others keep what they carry");
        return Err(IoError::Request(problem));
    }
    if target.format != OutputFormat::Gguf && target.gguf != GgufOptions::default() {
        let problem = "--gguf-type, --gguf-type-for, --gguf-architecture, --gguf-pre and --misfit need --format gguf";
        return Err(IoError::Request(problem.to_owned()));
    }
    match target.format {
        OutputFormat::Parquet | OutputFormat::Arrow => Ok(None),
        OutputFormat::Safetensors => safetensors::plan(model, choices, target).map(Some),
        OutputFormat::CompressedTensors => compressed_tensors::plan(model, choices, target).map(Some),
        OutputFormat::Gguf => gguf::plan(model, choices, &target.gguf).map(Some),
    }
}

#[cfg(test)]
mod tests;
