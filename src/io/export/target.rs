//! The format that a run writes.

use std::collections::BTreeMap;

use super::gguf::GgufOptions;
use crate::types::{Float, OutputFormat};

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
