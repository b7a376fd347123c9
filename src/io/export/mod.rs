//! Formats that engines load: what becomes of each tensor, and where its rows lie, known before a weight is read.
//!
//! A format is a function that makes an [`Export`]: how the rows of each tensor are encoded, and a [`Layout`] of files
//! with a place for every row. The rest is the same for all formats: `sql/export.sql` encodes the rows, parts are the
//! unit of work, and [`RowWriter`](crate::io::output::RowWriter) puts each row in its place.

pub mod compressed_tensors;
mod gather;
mod gguf;
mod layout;
mod safetensors;
pub mod shards;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

pub use gather::SafetensorsGatherer;
pub use gguf::{GgufOptions, Misfit};
pub use layout::{Layout, PlannedFile};

use super::{Choice, IoError, Model, OutputFormat};
use crate::types::{Encoding, Float, QuantizeOptions};

/// The format that a run writes, and what it lets one choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The format.
    pub format: OutputFormat,
    /// What floats are stored as where the format leaves it open; none: as the source has them.
    pub dtype: Option<Float>,
    /// The most bytes of a file, where the format has shards.
    pub shard_bytes: u64,
    /// What GGUF lets one choose.
    pub gguf: GgufOptions,
}

impl Target {
    /// The most bytes of a file where nothing else is asked for: what the Hugging Face hub recommends.
    pub const SHARD_BYTES: u64 = 5_000_000_000;

    /// The options by their names, for a manifest to record.
    pub fn describe(&self) -> BTreeMap<String, serde_json::Value> {
        if self.format.has_parts() {
            return BTreeMap::new();
        }
        if self.format == OutputFormat::Gguf {
            return self.gguf.describe();
        }
        let dtype = self.dtype.map_or("source", Float::name);
        [("dtype", dtype.into()), ("shard_bytes", self.shard_bytes.into())]
            .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value))
            .into()
    }
}

impl From<OutputFormat> for Target {
    fn from(format: OutputFormat) -> Self {
        Self { format, dtype: None, shard_bytes: Self::SHARD_BYTES, gguf: GgufOptions::default() }
    }
}

/// How a run writes a format other than parts.
#[derive(Debug, Clone)]
pub struct Export {
    /// How each tensor is written, in the order of the model.
    pub tensors: Vec<TensorExport>,
    /// Where the rows go.
    pub layout: Layout,
}

/// How the rows of one tensor are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorExport {
    /// Quantized and decoded again first.
    pub rounded: Option<QuantizeOptions>,
    /// Encoded so; none: as stored.
    pub encoding: Option<Encoding>,
}

impl Export {
    /// Plans what `target` asks for. The choices may change: a format that cannot hold a tensor quantized so says why in
    /// its note.
    ///
    /// # Errors
    /// The format cannot hold the model, or an option is not one of it.
    pub fn plan(model: &Model, choices: &mut [Choice], target: &Target) -> Result<Option<Self>, IoError> {
        if let Some(dtype) = target.dtype
            && matches!(target.format, OutputFormat::Parquet | OutputFormat::Arrow | OutputFormat::Gguf)
        {
            let problem = format!("--dtype {dtype} needs --format safetensors: others keep what they carry");
            return Err(IoError::Request(problem));
        }
        if target.format != OutputFormat::Gguf && target.gguf != GgufOptions::default() {
            return Err(IoError::Request("--gguf-type, --gguf-type-for and --misfit need --format gguf".to_owned()));
        }
        match target.format {
            OutputFormat::Parquet | OutputFormat::Arrow => Ok(None),
            OutputFormat::Safetensors => safetensors::plan(model, choices, target).map(Some),
            OutputFormat::CompressedTensors => compressed_tensors::plan(model, choices, target).map(Some),
            OutputFormat::Gguf => gguf::plan(model, choices, &target.gguf).map(Some),
        }
    }

    /// The table `choices` that `sql/export.sql` joins: one row per tensor.
    ///
    /// # Errors
    /// There is not one entry for each tensor of the model.
    pub fn choices_batch(&self, model: &Model) -> Result<RecordBatch, IoError> {
        let options = || self.tensors.iter().map(|tensor| tensor.rounded);
        let number = |number: fn(QuantizeOptions) -> i64| -> ArrayRef {
            Arc::new(options().map(|options| options.map(number)).collect::<Int64Array>())
        };
        let methods = options().map(|options| options.map(|options| options.method.name()));
        let symmetric = options().map(|options| options.map(|options| options.symmetric));
        let encodings = self.tensors.iter().map(|tensor| tensor.encoding.map(|encoding| encoding.to_string()));
        let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
        RecordBatch::try_new(
            choices_schema(),
            vec![
                Arc::new(StringViewArray::from_iter_values(names)),
                number(|options| i64::from(options.bits.get())),
                number(|options| i64::from(options.group_size())),
                Arc::new(methods.collect::<StringViewArray>()),
                Arc::new(symmetric.collect::<BooleanArray>()),
                Arc::new(encodings.collect::<StringViewArray>()),
            ],
        )
        .map_err(IoError::arrow(model.folder()))
    }
}

/// `name`; `bits`, `group_size`, `method` and `symmetric`, null for a tensor that is not quantized and decoded again;
/// `encoding`, null for one that is written as stored.
fn choices_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, false),
            Field::new("bits", DataType::Int64, true),
            Field::new("group_size", DataType::Int64, true),
            Field::new("method", DataType::Utf8View, true),
            Field::new("symmetric", DataType::Boolean, true),
            Field::new("encoding", DataType::Utf8View, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

#[cfg(test)]
mod tests;
