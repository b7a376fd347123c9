//! The options of `quantize` that change the result: what was typed, and the [`Spec`] that it means.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::CliError;
use crate::{
    plan::{
        formats::{
            self,
            comfy::options::ComfyType,
            format::Format,
            gguf::options::{GgufType, Misfit},
        },
        profile::Profile,
        spec::{
            Spec,
            format_name::FormatName,
            pattern_rule::{Pattern, PatternRule},
        },
    },
    storage::error::IoError,
    types::{ActivationBits, Coding, Equalize, Float, GroupSize, MlxType, Rate, TimeMethod},
};

// Constants, since a comment would need the names of types marked as code.
const COMFY_TYPE: &str = "Type of the layers in --format comfy: int8 (rotated), int8-rows, w4a8, w6a8, w4a4, fp8, nvfp4 or mxfp8 \
                          [default: int8]";
const COMFY_TYPE_FOR: &str =
    "Type in --format comfy for tensors matching REGEX, e.g. 'mlp=w4a8' (last match wins; repeatable)";
const MLX_TYPE_FOR: &str =
    "Type in --format mlx for tensors matching REGEX, e.g. 'down_proj=int6' (last match wins; repeatable)";
const GGUF_TYPE: &str = "Type of the quantized tensors in GGUF: Q4_K, Q8_0 ..., F16, BF16 or F32 [default: by --bits]";
const GGUF_TYPE_FOR: &str = "GGUF type for tensors matching REGEX, e.g. 'ffn_down=Q6_K' (last match wins; repeatable)";
const GGUF_ARCHITECTURE: &str = "general.architecture of the GGUF file, e.g. flux; tensors then keep their names [default: by the \
                                 tensors' names; by config.json for Dream and LLaDA, which are named as llama.cpp names them]";
const GGUF_PRE: &str = "llama.cpp's name of the pattern by which the tokenizer of Dream or LLaDA splits text, e.g. qwen2 \
                        [default: by tokenizer.json]";

#[derive(Debug, Default, clap::Args)]
#[group(id = "options")]
#[command(next_help_heading = "Bits")]
pub struct SpecArguments {
    /// Bits per code: 2, 3, 4 or 8; with --method entropy any number from 1 to 8 [default: 4]
    #[arg(long, short)]
    bits: Option<Rate>,
    /// Weights that share a scale and a zero point; 'channel' for the whole row [default: 32]
    #[arg(long, short, value_name = "N")]
    group_size: Option<GroupSize>,
    /// Method that chooses scales and zero points: 'search' (least squared error) or 'minmax'; or 'entropy': codes of variable
    /// length, for storage [default: search up to 4 bits and in --format mlx, minmax for 8]
    #[arg(long)]
    method: Option<Coding>,
    /// Use symmetric quantization (no zero points)
    #[arg(long)]
    symmetric: bool,
    /// Bits for tensors matching REGEX, e.g. 'mlp=2' (last match wins; repeatable)
    #[arg(long, value_name = "REGEX=BITS")]
    bits_for: Vec<PatternRule<Rate>>,
    /// Raise the bits of each tensor until it reaches this SQNR in dB; fail if 8 bits are not enough
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    min_sqnr: Option<f64>,
    /// Choose the bits of each tensor for the least error so that all tensors together take at most SIZE, e.g. 4GB
    #[arg(long, value_name = "SIZE")]
    target_size: Option<ByteSize>,
    /// Choose the bits of each tensor for the least error so that a quantized weight takes at most BITS, scales and zero
    /// points included, e.g. 3.2
    #[arg(long, value_name = "BITS")]
    target_bpw: Option<f64>,
    /// Preset: edge, local or cloud; other options override it (`arrow-quant profiles` lists them)
    #[arg(long)]
    profile: Option<Profile>,
    /// Parquet file of Hessians from calibration: quantize the tensors that it names by GPTQ
    #[arg(long, value_name = "FILE")]
    hessians: Option<PathBuf>,
    /// Quantize the float tensors of rank 2 and more matching REGEX instead of the default selection (repeatable)
    #[arg(long, value_name = "REGEX", help_heading = "What to quantize")]
    include: Vec<Pattern>,
    /// Copy the tensors matching REGEX unchanged (repeatable)
    #[arg(long, value_name = "REGEX", help_heading = "What to quantize")]
    exclude: Vec<Pattern>,
    /// Leave the tensors matching REGEX out of the output (repeatable)
    #[arg(long, value_name = "REGEX", help_heading = "What to quantize")]
    drop: Vec<Pattern>,
    /// Fail if less than this share of the parameters would be quantized, e.g. 0.8
    #[arg(long, value_name = "SHARE", help_heading = "What to quantize")]
    min_share: Option<f64>,
    #[arg(long, help = format_help(), value_parser = format_names(), hide_possible_values = true, help_heading = "Format")]
    format: Option<FormatName>,
    /// Floats of --format safetensors: F16, BF16, F32 or F64 [default: those of the source]
    #[arg(long, help_heading = "Format")]
    dtype: Option<Float>,
    /// Most bytes of a safetensors file, e.g. 2GB; larger models are cut into shards [default: 5GB]
    #[arg(long, value_name = "SIZE", help_heading = "Format")]
    shard_size: Option<ByteSize>,
    #[arg(long, value_name = "TYPE", help = GGUF_TYPE, help_heading = "Format")]
    gguf_type: Option<GgufType>,
    #[arg(long, value_name = "REGEX=TYPE", help = GGUF_TYPE_FOR, help_heading = "Format")]
    gguf_type_for: Vec<PatternRule<GgufType>>,
    /// For a tensor whose rows do not divide into blocks of its GGUF type: error, keep (copy unchanged) or fallback (a type
    /// of 32 weights where it fits, else keep) [default: fallback]
    #[arg(long, help_heading = "Format")]
    misfit: Option<Misfit>,
    #[arg(long, value_name = "NAME", help = GGUF_ARCHITECTURE, help_heading = "Format")]
    gguf_architecture: Option<String>,
    #[arg(long, value_name = "NAME", help = GGUF_PRE, help_heading = "Format")]
    gguf_pre: Option<String>,
    #[arg(long, value_name = "TYPE", help = COMFY_TYPE, help_heading = "Format")]
    comfy_type: Option<ComfyType>,
    #[arg(long, value_name = "REGEX=TYPE", help = COMFY_TYPE_FOR, help_heading = "Format")]
    comfy_type_for: Vec<PatternRule<ComfyType>>,
    /// Type of the layers in --format mlx: int2, int3, int4, int5, int6, int8, mxfp4, mxfp8 or nvfp4 [default: by --bits]
    #[arg(long, value_name = "TYPE", help_heading = "Format")]
    mlx_type: Option<MlxType>,
    #[arg(long, value_name = "REGEX=TYPE", help = MLX_TYPE_FOR, help_heading = "Format")]
    mlx_type_for: Vec<PatternRule<MlxType>>,
    /// Parquet file of activations from calibration: make a quantizer for the input of each quantized layer
    #[arg(long, value_name = "FILE", help_heading = "Activations")]
    activations: Option<PathBuf>,
    /// Groups of timesteps with a quantizer of their own; 1 for one quantizer over all [default: 8]
    #[arg(long, value_name = "N", help_heading = "Activations")]
    time_groups: Option<u32>,
    /// Method that cuts time into groups: optimal, uniform or quantile [default: optimal]
    #[arg(long, value_name = "METHOD", help_heading = "Activations")]
    time_method: Option<TimeMethod>,
    /// Bits per activation: 2 to 8 [default: 8]
    #[arg(long, value_name = "N", help_heading = "Activations")]
    activation_bits: Option<ActivationBits>,
    /// Use activation quantizers whose zero point is the middle code
    #[arg(long, help_heading = "Activations")]
    activation_symmetric: bool,
    /// Trade range between activations and weights: ALPHA from 0 to 1, 'auto' (chosen for each layer) or 'log'; 'weights'
    /// balances the channels of the weights alone, without --activations
    #[arg(long, value_name = "ALPHA", help_heading = "Activations")]
    equalize: Option<Equalize>,
}

impl SpecArguments {
    /// Returns the spec that the arguments mean.
    fn spec(&self) -> Spec {
        let spec = Spec {
            format: self.format.clone().unwrap_or_default(),
            bits: self.bits,
            group_size: self.group_size,
            method: self.method,
            symmetric: self.symmetric,
            include: self.include.clone(),
            exclude: self.exclude.clone(),
            drop: self.drop.clone(),
            min_share: self.min_share,
            bits_for: self.bits_for.clone(),
            min_sqnr: self.min_sqnr,
            target_size: self.target_size,
            target_bpw: self.target_bpw,
            dtype: self.dtype,
            shard_size: self.shard_size,
            gguf_type: self.gguf_type,
            gguf_type_for: self.gguf_type_for.clone(),
            misfit: self.misfit,
            gguf_architecture: self.gguf_architecture.clone(),
            gguf_pre: self.gguf_pre.clone(),
            comfy_type: self.comfy_type,
            comfy_type_for: self.comfy_type_for.clone(),
            mlx_type: self.mlx_type,
            mlx_type_for: self.mlx_type_for.clone(),
            activations: self.activations.clone(),
            time_groups: self.time_groups,
            time_method: self.time_method,
            activation_bits: self.activation_bits,
            activation_symmetric: self.activation_symmetric,
            equalize: self.equalize,
            hessians: self.hessians.clone(),
        };
        match self.profile {
            Some(profile) => spec.with_profile(profile),
            None => spec,
        }
    }
}

/// Accepts the names of the formats.
fn format_names() -> impl TypedValueParser<Value = FormatName> {
    PossibleValuesParser::new(formats::ALL.map(Format::name)).map(|name| FormatName::from(name.as_str()))
}

/// Returns the help of `--format`: each format, and what it is.
fn format_help() -> String {
    let formats = formats::ALL.map(|format| format!("{} ({})", format.name(), format.summary()));
    format!("Output format: {} [default: parquet]", formats.join(", "))
}

/// The spec, as options or as a file.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Read all options that change the result from a JSON file instead
    #[arg(long = "spec", value_name = "FILE", conflicts_with = "options", help_heading = "What to quantize")]
    file: Option<PathBuf>,
    #[command(flatten)]
    options: SpecArguments,
}

impl Arguments {
    /// Returns the spec, checked.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is no spec, or options do not go together.
    pub fn spec(&self) -> Result<Spec, CliError> {
        let Some(path) = &self.file else {
            let spec = self.options.spec();
            spec.check().map_err(|error| CliError::Usage(error.to_string()))?;
            return Ok(spec);
        };
        let text = std::fs::read_to_string(path).map_err(IoError::system("read", path))?;
        let spec = Spec::from_json(&text).and_then(|spec| spec.check().map(|()| spec));
        Ok(spec.map_err(|error| IoError::file(path, error.to_string()))?)
    }
}
