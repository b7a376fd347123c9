//! Formats that engines load: what becomes of each tensor, and where its rows lie, known before a weight is read.
//!
//! A format is a function that makes an [`Export`]: how the rows of each tensor are encoded, and a
//! [`Layout`](crate::storage::file_layout::Layout) of files with a place for every row. The rest is the same for all formats: `sql/export.sql` encodes the rows, parts are the
//! unit of work, and [`RowWriter`](crate::output::row_writer::RowWriter) puts each row in its place.

pub mod compressed_tensors;
pub mod export;
pub mod gguf;
mod safetensors;
pub mod shards;
pub mod written;

use super::{selection::Choice, spec::Spec};
use crate::{model::Model, storage::error::IoError, types::OutputFormat};
use export::Export;

/// Plans the format of `spec`; `None` means parts, which need no plan. The choices may change: a format that cannot hold a
/// tensor quantized so says why in its note.
///
/// # Errors
/// Returns an error if the format cannot hold the model, or an option matches nothing in it.
pub fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
    match spec.format {
        OutputFormat::Parquet | OutputFormat::Arrow => Ok(None),
        OutputFormat::Safetensors => safetensors::plan(model, choices, spec).map(Some),
        OutputFormat::CompressedTensors => compressed_tensors::plan(model, choices, spec).map(Some),
        OutputFormat::Gguf => gguf::plan(model, choices, spec).map(Some),
    }
}

#[cfg(test)]
mod tests;
