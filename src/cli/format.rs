//! The options of `arrow-quant quantize` that say what is written.

use super::{gguf, options};
use crate::{
    io::{OutputFormat, Target},
    types::{Float, QuantizeOptions},
};

/// Parses `--group-size`.
pub fn group_size(text: &str) -> Result<i64, String> {
    match text {
        "channel" => Ok(i64::from(QuantizeOptions::PER_ROW)),
        number => number.parse().map_err(|_| format!("must be a number or 'channel', not '{text}'")),
    }
}

/// How large the groups are, in words.
pub fn groups(options: QuantizeOptions) -> String {
    if options.is_per_row() { "one group a row".to_owned() } else { format!("groups of {}", options.group_size()) }
}

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What the weights are written as: parquet or arrow (parts, in two-level scales), or for other programs: safetensors
    /// (floats, rounded to what the codes decode to), compressed-tensors (transformers and vLLM; vLLM reads 4 and 8 bits
    /// in every version, 2 and 3 without zero points in recent ones) or gguf (blocks of llama.cpp, by default of as many
    /// bits as --bits says)
    #[arg(long, default_value = "parquet")]
    format: OutputFormat,
    /// The floats of --format safetensors: F16, BF16, F32 or F64 [default: as in the source]
    #[arg(long)]
    dtype: Option<Float>,
    /// The most bytes of a safetensors file, such as 2GB; larger models are cut into shards
    #[arg(long, value_name = "SIZE", value_parser = options::bytes, default_value_t = Target::SHARD_BYTES)]
    shard_size: u64,
    #[command(flatten)]
    gguf: gguf::Arguments,
}

impl Arguments {
    pub fn target(&self) -> Target {
        Target { format: self.format, dtype: self.dtype, shard_bytes: self.shard_size, gguf: self.gguf.options() }
    }

    pub const fn has_parts(&self) -> bool {
        self.format.has_parts()
    }
}
