//! Every option that changes a byte of the result, as plain data.

pub mod check;
mod defaults;
pub mod format_name;
pub mod pattern_rule;
pub mod spec_error;
pub mod spelling;

use std::{collections::BTreeMap, path::PathBuf};

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    formats::{
        comfy::options::ComfyType,
        gguf::options::{GgufType, Misfit},
    },
    profile::Profile,
};
use crate::types::{
    ActivationBits, Bits, Coding, Equalize, Float, GroupSize, Method, MlxType, QuantizeOptions, Rate, TimeMethod,
};

use format_name::FormatName;
use pattern_rule::{Pattern, PatternRule};
use spec_error::SpecError;

/// Every option that changes a byte of the result.
///
/// The command line, Python and `--spec FILE.json` all fill this one struct, and the manifest of an output folder holds it.
/// The names of the fields are those of the options: `group_size` is `--group-size` on the command line. `None` means the
/// default of the option.
///
/// ```
/// use arrow_quant::plan::spec::Spec;
///
/// let spec: Spec = Spec::from_json(r#"{"bits": 2, "group_size": 16, "exclude": ["embed"]}"#)?;
/// spec.check()?;
/// assert_eq!(spec.group_size.map(|size| size.get()), Some(16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// The format that is written.
    pub format: FormatName,
    /// Bits per code (4); of entropy-coded weights any number from 1 to 8.
    pub bits: Option<Rate>,
    /// Weights that share a scale and a zero point (32).
    pub group_size: Option<GroupSize>,
    /// The way scales and zero points are chosen (by the bits, see [`Method::default_for`]), or entropy-coded weights.
    pub method: Option<Coding>,
    /// Use no zero points.
    pub symmetric: bool,
    /// Patterns of the tensors to quantize, instead of the default selection.
    pub include: Vec<Pattern>,
    /// Patterns of the tensors to copy unchanged.
    pub exclude: Vec<Pattern>,
    /// Patterns of the tensors to leave out of the output.
    pub drop: Vec<Pattern>,
    /// The least share of the parameters that is quantized, from 0 to 1.
    pub min_share: Option<f64>,
    /// Bits by pattern; the last match counts.
    pub bits_for: Vec<PatternRule<Rate>>,
    /// The least signal-to-quantization-noise ratio of each tensor, in dB.
    pub min_sqnr: Option<f64>,
    /// The most bytes of all tensors together.
    #[serde(serialize_with = "as_number")]
    pub target_size: Option<ByteSize>,
    /// The most bits of a quantized weight, scales and zero points included.
    pub target_bpw: Option<f64>,
    /// The floats of the format `safetensors` (those of the source).
    pub dtype: Option<Float>,
    /// The most bytes of a safetensors file (5 GB).
    #[serde(serialize_with = "as_number")]
    pub shard_size: Option<ByteSize>,
    /// The type of the quantized tensors in GGUF (by the bits).
    pub gguf_type: Option<GgufType>,
    /// Types in GGUF by pattern; the last match counts.
    pub gguf_type_for: Vec<PatternRule<GgufType>>,
    /// The treatment of a tensor whose rows do not divide into blocks of its GGUF type (`fallback`).
    pub misfit: Option<Misfit>,
    /// `general.architecture` of a GGUF file (by the tensors' names or `config.json`).
    pub gguf_architecture: Option<String>,
    /// `tokenizer.ggml.pre` of a GGUF file (by `tokenizer.json`).
    pub gguf_pre: Option<String>,
    /// The type of the quantized layers in `ComfyUI`'s files (`int8`).
    pub comfy_type: Option<ComfyType>,
    /// Types in `ComfyUI`'s files by pattern; the last match counts.
    pub comfy_type_for: Vec<PatternRule<ComfyType>>,
    /// The type of the quantized layers in folders of MLX (by the bits).
    pub mlx_type: Option<MlxType>,
    /// Types in folders of MLX by pattern; the last match counts.
    pub mlx_type_for: Vec<PatternRule<MlxType>>,
    /// The Parquet file of activations that calibration wrote.
    pub activations: Option<PathBuf>,
    /// Groups of timesteps with an activation quantizer of their own (8).
    pub time_groups: Option<u32>,
    /// The way time is cut (`optimal`).
    pub time_method: Option<TimeMethod>,
    /// Bits per activation (8).
    pub activation_bits: Option<ActivationBits>,
    /// Use activation quantizers whose zero point is the middle code.
    pub activation_symmetric: bool,
    /// The source of the factors that equalize channels; `None` means no equalization.
    pub equalize: Option<Equalize>,
    /// The Parquet file of Hessians that calibration wrote: the tensors that it names are quantized by GPTQ.
    pub hessians: Option<PathBuf>,
}

impl Spec {
    /// The names of all fields.
    pub const FIELDS: [&str; 31] = [
        "format",
        "bits",
        "group_size",
        "method",
        "symmetric",
        "include",
        "exclude",
        "drop",
        "min_share",
        "bits_for",
        "min_sqnr",
        "target_size",
        "target_bpw",
        "dtype",
        "shard_size",
        "gguf_type",
        "gguf_type_for",
        "misfit",
        "gguf_architecture",
        "gguf_pre",
        "comfy_type",
        "comfy_type_for",
        "mlx_type",
        "mlx_type_for",
        "activations",
        "time_groups",
        "time_method",
        "activation_bits",
        "activation_symmetric",
        "equalize",
        "hessians",
    ];

    /// The most bytes of a safetensors file unless `shard_size` says otherwise: what the Hugging Face hub recommends.
    pub const SHARD_BYTES: u64 = 5_000_000_000;

    /// Reads a spec from JSON: an object whose keys are the names of the fields.
    ///
    /// # Errors
    /// Returns an error that names the field if the text is not JSON, a field is unknown, or a value is not accepted.
    pub fn from_json(text: &str) -> Result<Self, SpecError> {
        let object: serde_json::Map<String, Json> = serde_json::from_str(text)
            .map_err(|error| SpecError::new("", format!("the spec must be a JSON object: {error}")))?;
        Self::from_deserializer(Json::Object(object))
    }

    /// Reads a spec from any self-describing data, such as a Python dict.
    ///
    /// # Errors
    /// Returns an error that names the field if a field is unknown or a value is not accepted.
    pub fn from_deserializer<'de>(source: impl serde::Deserializer<'de>) -> Result<Self, SpecError> {
        serde_path_to_error::deserialize(source).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.into_inner().to_string();
            // What a type says of itself may begin with the name as well.
            let problem = problem.strip_prefix(&format!("{path} ")).unwrap_or(&problem);
            SpecError::new(if path == "." { "" } else { &path }, problem)
        })
    }

    /// Returns how a row is quantized to codes of a fixed width where no pattern and no budget says otherwise.
    #[must_use]
    pub fn row_options(&self) -> QuantizeOptions {
        let bits = self.bits.and_then(|rate| rate.fixed().ok()).unwrap_or(Bits::Four);
        QuantizeOptions::new(bits)
            .with_groups(self.group_size.unwrap_or_default())
            .with_method(self.fixed_method().unwrap_or(Method::default_for(bits)))
            .with_symmetric(self.symmetric)
    }

    /// Returns the method that chooses scales and zero points, where one is named.
    #[must_use]
    pub fn fixed_method(&self) -> Option<Method> {
        self.method.and_then(Coding::method)
    }

    /// Returns true if weights are entropy-coded.
    #[must_use]
    pub fn is_entropy(&self) -> bool {
        self.method == Some(Coding::Entropy)
    }

    /// Returns the bits a weight where no pattern and no budget says otherwise.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.bits.unwrap_or(Rate::from(Bits::Four))
    }

    /// Returns true if bits are chosen by measuring the weights.
    #[must_use]
    pub const fn has_bit_budget(&self) -> bool {
        self.min_sqnr.is_some() || self.target_size.is_some() || self.target_bpw.is_some()
    }

    /// Returns the most bytes of a safetensors file.
    #[must_use]
    pub fn shard_bytes(&self) -> u64 {
        self.shard_size.map_or(Self::SHARD_BYTES, |size| size.as_u64())
    }

    /// Returns the number of groups of timesteps.
    #[must_use]
    pub fn time_groups(&self) -> u32 {
        self.time_groups.unwrap_or(Profile::TIME_GROUPS)
    }

    /// Returns the bits per activation.
    #[must_use]
    pub fn activation_bits(&self) -> ActivationBits {
        self.activation_bits.unwrap_or(ActivationBits::EIGHT)
    }

    /// Returns the options that are given, and the format, by the names of their fields.
    pub(crate) fn given(&self) -> Result<BTreeMap<String, Json>, SpecError> {
        match serde_json::to_value(self) {
            Ok(Json::Object(map)) => Ok(map.into_iter().filter(|(_, value)| is_given(value)).collect()),
            Ok(other) => Err(SpecError::new("", format!("the options are no JSON object: {other}"))),
            Err(error) => Err(SpecError::new("", format!("the options cannot be recorded: {error}"))),
        }
    }
}

/// Writes a size as its number of bytes: bytesize would round it to a few digits of a unit.
#[allow(clippy::ref_option, reason = "serde hands over the field")]
fn as_number<S: serde::Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.as_u64()).serialize(serializer)
}

/// Returns true if an option has a value: none is null, false, or an empty list.
fn is_given(value: &Json) -> bool {
    !(value.is_null() || value == false || value.as_array().is_some_and(Vec::is_empty))
}
