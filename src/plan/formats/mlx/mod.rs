//! Folders that mlx-lm loads: of a quantized layer `m` the codes as `m.weight`, `m.scales`, and of integers `m.biases`;
//! `config.json` says how many bits and weights a group has.

mod config;
mod stacks;

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    config::{is_transposed, put, read_config},
    export::{Export, TensorExport, is_decoded, leave_out_companions},
    format::Format,
    magnitudes::{keep_small, least_of_half_scales},
    shards::{Content, NewTensor, lay_out},
};
use crate::{
    model::{Model, layer_part::Part, mlx_layers::parts, tensor::Tensor},
    plan::{
        format_type::FormatType,
        selection::{Choice, choose_types},
        spec::{Spec, spec_error::SpecError},
    },
    storage::{dtype::float_of, error::IoError},
    types::{Encoding, Float, GroupSize, Method, Mlx, MlxType, OptionsError, QuantizeOptions},
};

/// The values of `model_type` whose experts mlx-lm stacks when it loads them, codes and scales alike; of others it stacks floats alone.
const STACKED: [&str; 22] = [
    "afmoe",
    "bailing_hybrid",
    "bailing_moe",
    "bailing_moe_linear",
    "deepseek",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "dots1",
    "exaone_moe",
    "glm4_moe",
    "glm4_moe_lite",
    "hunyuan",
    "jamba",
    "laguna",
    "longcat_flash",
    "mimo_v2_flash",
    "mistral4",
    "mixtral",
    "olmoe",
    "phimoe",
    "qwen2_moe",
];

/// Folders that mlx-lm loads.
pub struct MlxFolder;

impl Format for MlxFolder {
    fn name(&self) -> &'static str {
        "mlx"
    }

    fn summary(&self) -> &'static str {
        "mlx-lm, on Apple silicon: integers of 2 to 8 bits, MXFP4, MXFP8 and NVFP4"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "bits",
            "bits_for",
            "group_size",
            "method",
            "mlx_type",
            "mlx_type_for",
            "shard_size",
            "equalize",
            "min_sqnr",
            "target_size",
            "target_bpw",
        ]
    }

    fn has_types(&self) -> bool {
        true
    }

    fn set_type(&self, choice: &mut Choice, text: &str) -> Result<(), String> {
        choice.kind = Some(FormatType::Mlx(text.parse().map_err(|error: OptionsError| error.to_string())?));
        Ok(())
    }

    fn quantizes(&self) -> &'static [&'static str] {
        &["embedding", "head"]
    }

    fn widths(&self, choice: &Choice, _: QuantizeOptions, _: Option<Method>) -> Vec<Choice> {
        MlxType::WIDTHS.into_iter().map(|kind| Choice { kind: Some(FormatType::Mlx(kind)), ..choice.clone() }).collect()
    }

    fn together(&self, model: &Model) -> Vec<Vec<usize>> {
        stacks::stacks(model)
    }

    fn choose(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<(), IoError> {
        choose_types("mlx_type_for", &spec.mlx_type_for, model, choices, |ruled, options| {
            FormatType::Mlx(ruled.or(spec.mlx_type).unwrap_or(MlxType::of_bits(options.bits)))
        })
    }

    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
        plan(model, choices, spec).map(Some)
    }
}

/// Plans the files. A tensor that the format cannot hold quantized is carried, and its note says why.
///
/// # Errors
/// The model has no `config.json`, or one that is no JSON object; MLX has no groups of the size that is asked for; a header
/// would be longer than the format allows.
fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Export, IoError> {
    let mut config = read_config(model, "mlx-lm")?;
    let group_size = spec.group_size.unwrap_or_default();
    if !Mlx::GROUP_SIZES.map(Some).contains(&Some(group_size.get())) {
        let problem = format!("must be 32, 64 or 128 with `format` mlx, not {group_size}");
        return Err(SpecError::new("group_size", problem).into());
    }
    for (tensor, choice) in model.tensors().iter().zip(&mut *choices) {
        let Some(FormatType::Mlx(kind)) = choice.kind else { continue };
        let mlx = stored(tensor, kind, group_size, spec);
        if let Some(note) = misfit(&config, tensor, mlx) {
            *choice = Choice { note, ..Choice::default() };
        } else {
            choice.say(kind.to_string());
            choice.stored = Some(Encoding::Mlx(mlx));
        }
    }
    keep_small(model, choices, |_, choice| least(config::planned(choice)?))?;
    stacks::keep_uneven(model, choices);
    let mut exports = Vec::with_capacity(choices.len());
    for (tensor, choice) in model.tensors().iter().zip(&mut *choices) {
        let float = float_of(tensor.dtype);
        let encoding = match config::planned(choice) {
            Some(mlx) => Some(Encoding::Mlx(mlx)),
            None if float == Some(Float::F64) => {
                choice.note = format!("{}; stored as F32, since MLX has no F64", choice.note);
                Some(Encoding::Float(Float::F32))
            }
            None if tensor.is_plain() && !is_decoded(tensor) => None,
            None => float.map(Encoding::Float),
        };
        exports.push(TensorExport { encoding, ..TensorExport::default() });
    }
    let left_out = leave_out_companions(model, choices, spec)?;
    let mut tensors = Vec::new();
    for (source, (tensor, export)) in model.tensors().iter().zip(&exports).enumerate() {
        if left_out[source] {
            continue;
        }
        match export.encoding {
            Some(Encoding::Mlx(mlx)) => tensors.extend(of_layer(source, tensor, mlx)),
            other => tensors.push(NewTensor::carried(source, tensor, other)),
        }
    }
    let mut layout = lay_out(model, &tensors, spec.shard_bytes())?;
    if let Some(quantization) = config::quantization(model, choices) {
        // The second is where the Hugging Face hub looks.
        for key in ["quantization", "quantization_config"] {
            config.insert(key.to_owned(), quantization.clone());
        }
    }
    put(&mut layout, config);
    Ok(Export { tensors: exports, layout: Arc::new(layout) })
}

/// Returns how a tensor is stored as a type.
fn stored(tensor: &Tensor, kind: MlxType, group_size: GroupSize, spec: &Spec) -> Mlx {
    let mut mlx = Mlx::new(kind, group_size.get());
    mlx.method = spec.fixed_method().unwrap_or(Method::Search);
    if kind.block().is_none() {
        mlx.float = match float_of(tensor.dtype) {
            Some(Float::F64) | None => Float::F32,
            Some(float) => float,
        };
    }
    mlx
}

/// Returns the reason why mlx-lm would not load a tensor quantized.
fn misfit(config: &Map<String, Value>, tensor: &Tensor, mlx: Mlx) -> Option<String> {
    // Experts that a model of MLX has in one tensor.
    let is_stack = tensor.shape.len() == 3 && tensor.name.contains(".switch_");
    let Some(module) = tensor.name.strip_suffix(".weight").filter(|_| tensor.shape.len() == 2 || is_stack) else {
        return Some(
            "MLX quantizes linear layers and embeddings alone: tensors 'NAME.weight' of rank 2, and stacks of experts"
                .to_owned(),
        );
    };
    if is_transposed(config, tensor) {
        return Some("stored as [inputs, outputs]: mlx-lm transposes it, which codes do not bear".to_owned());
    }
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    if stacks::is_expert(module) && !STACKED.contains(&model_type) {
        return Some(format!("mlx-lm stacks the experts of '{model_type}' in floats alone"));
    }
    let is_tied = config.get("tie_word_embeddings").and_then(Value::as_bool) == Some(true);
    if is_tied && module.rsplit('.').next() == Some("lm_head") {
        return Some("tied to the embedding, as config.json says: mlx-lm leaves it out".to_owned());
    }
    let size = mlx.group_size;
    let fits = tensor.row_length.is_multiple_of(size as usize);
    (!fits)
        .then(|| format!("rows of {} are not whole groups of {size}, as {} of MLX asks", tensor.row_length, mlx.kind))
}

/// Returns what holds scales of a tensor that must not be too small, and its least largest weight.
fn least(mlx: Mlx) -> Option<(String, f32)> {
    let Mlx { kind, float, method, .. } = mlx;
    match kind {
        // Two steps of E4M3.
        MlxType::Nvfp4 => Some((format!("{kind}, whose scales are E4M3 alone,"), 6.0 / 256.0)),
        MlxType::Mxfp4 | MlxType::Mxfp8 => None,
        _ if method == Method::Minmax => {
            Some((format!("{kind} with MLX's least scale, 1e-7,"), f32::exp2(f32::from(kind.bits()) - 2.0) * 1e-7))
        }
        _ => (float == Float::F16).then(|| least_of_half_scales(&kind.to_string(), kind.bits())),
    }
}

/// Returns the tensors of a quantized layer, in the order of the shares of an encoded row.
fn of_layer(source: usize, tensor: &Tensor, mlx: Mlx) -> Vec<NewTensor> {
    let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
    let shares = mlx.shares(tensor.row_length).unwrap_or_default();
    let new = |(part, row_bytes): (Part, usize)| NewTensor {
        source,
        name: format!("{module}.{}", part.suffix),
        dtype: part.dtypes[0],
        shape: part.shape,
        content: Content::Rows { row_bytes, order: part.order },
    };
    parts(mlx, &tensor.shape, &shares).into_iter().zip(shares).map(new).collect()
}
