//! Formats that engines load: what becomes of each tensor, and where its rows lie, known before a weight is read.
//!
//! A format is a [`Format`] in the list [`ALL`]. It makes an [`Export`](export::Export): how the rows of each tensor are encoded, and a
//! [`Layout`](crate::storage::file_layout::Layout) of files with a place for every row. The rest is the same for all formats: `sql/export.sql` encodes the rows, parts are the
//! unit of work, and [`RowWriter`](crate::output::row_writer::RowWriter) puts each row in its place.

pub mod comfy;
pub mod compressed_tensors;
mod config;
pub mod export;
pub mod format;
pub mod gguf;
mod magnitudes;
pub mod mlx;
mod module_names;
mod parts;
mod safetensors;
pub mod shards;
pub mod written;

use super::spec::{Spec, spec_error::SpecError};
use crate::types::PartFormat;
use format::Format;

/// Every format. A new one is a file beside this and an entry here.
pub const ALL: [&dyn Format; 7] = [
    &parts::Parts(PartFormat::Parquet),
    &parts::Parts(PartFormat::Arrow),
    &safetensors::Safetensors,
    &compressed_tensors::CompressedTensors,
    &gguf::Gguf,
    &comfy::ComfyUi,
    &mlx::MlxFolder,
];

/// Returns the format of a spec.
///
/// # Errors
/// Returns an error if there is none of its name.
pub fn of(spec: &Spec) -> Result<&'static dyn Format, SpecError> {
    ALL.into_iter().find(|format| format.name() == spec.format.as_ref()).ok_or_else(|| {
        let names = ALL.map(Format::name).join(", ");
        SpecError::new("format", format!("must be one of {names}, not '{}'", spec.format))
    })
}

#[cfg(test)]
mod tests;
