//! The options of `arrow-quant quantize` that say what is written.

use super::{CliError, gguf, options};
use crate::{
    io::Target,
    types::{Float, OutputFormat, QuantizeOptions},
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
    /// The most bytes of a safetensors file, such as 2GB; larger models are cut into shards [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = options::bytes)]
    shard_size: Option<u64>,
    #[command(flatten)]
    gguf: gguf::Arguments,
}

impl Arguments {
    pub fn target(&self) -> Target {
        let shard_bytes = self.shard_size.unwrap_or(Target::SHARD_BYTES);
        Target { format: self.format, dtype: self.dtype, shard_bytes, gguf: self.gguf.options() }
    }

    /// What was asked for that the format does not do; `groups` is an option about groups of weights, `goals` whether
    /// bits are chosen by measurement.
    ///
    /// # Errors
    /// There is any.
    pub fn check(&self, groups: Option<&str>, goals: bool) -> Result<(), CliError> {
        let has_shards = matches!(self.format, OutputFormat::Safetensors | OutputFormat::CompressedTensors);
        let refuse = |problem: String| Err(CliError::Usage(problem));
        if self.shard_size.is_some() && !has_shards {
            return refuse("--shard-size needs --format safetensors or compressed-tensors".to_owned());
        }
        if let (Some(option), OutputFormat::Gguf) = (groups, self.format) {
            return refuse(format!(
                "{option} has no meaning for --format gguf: each of its types has groups, zero points and a search of its \
                 own (--gguf-type chooses one)"
            ));
        }
        if goals && !self.has_parts() {
            // What is measured is the error of this library's own scales, not that of the format's.
            return refuse(
                "--min-sqnr, --target-size and --target-bpw choose bits for --format parquet or arrow alone".to_owned(),
            );
        }
        Ok(())
    }

    pub const fn has_parts(&self) -> bool {
        self.format.has_parts()
    }
}
