//! `ComfyUI`'s marked safetensors: of a layer `m` the codes as `m.weight`, its scales, and `m.comfy_quant`, a JSON object that says
//! how they decode.

mod detection;
mod fit;
mod layer;
pub mod options;

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    config::config_without_quantization,
    export::{Export, TensorExport, is_decoded, leave_out_companions},
    format::Format,
    magnitudes,
    shards::{NewTensor, lay_out, lay_out_with},
};
use crate::{
    model::{Model, comfy_layers::METADATA, tensor::Tensor},
    plan::{
        format_type::FormatType,
        selection::{Choice, choose_types},
        spec::{Spec, pattern_rule::PatternRule, spec_error::SpecError},
    },
    storage::{dtype::float_of, error::IoError, file_layout::Layout},
    types::{Comfy, Encoding, Method, QuantizeOptions},
};
use detection::Detection;
use fit::{fitted, tensor_scale};
use layer::{marker, of_layer};
use options::ComfyType;

/// `ComfyUI`'s marked safetensors.
pub struct ComfyUi;

impl Format for ComfyUi {
    fn name(&self) -> &'static str {
        "comfy"
    }

    fn summary(&self) -> &'static str {
        "safetensors that ComfyUI multiplies as they are: INT8, W4A8, FP8, NVFP4 and others"
    }

    fn options(&self) -> &'static [&'static str] {
        &["comfy_type", "comfy_type_for", "method", "shard_size", "min_sqnr", "target_size", "target_bpw"]
    }

    fn has_types(&self) -> bool {
        true
    }

    fn set_type(&self, choice: &mut Choice, text: &str) -> Result<(), String> {
        choice.kind = Some(FormatType::Comfy(text.parse()?));
        Ok(())
    }

    fn widths(&self, choice: &Choice, _: QuantizeOptions, _: Option<Method>) -> Vec<Choice> {
        // What one release of ComfyUI multiplies side by side, and floats.
        let types = [ComfyType::W4a8, ComfyType::W6a8, ComfyType::Int8];
        let layers = types.into_iter().map(|kind| Choice { kind: Some(FormatType::Comfy(kind)), ..choice.clone() });
        layers.chain([Choice { options: None, kind: None, ..choice.clone() }]).collect()
    }

    fn choose(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<(), IoError> {
        let detection = Detection::new()?;
        choose_types("comfy_type_for", &spec.comfy_type_for, model, choices, |ruled, _| {
            FormatType::Comfy(ruled.or(spec.comfy_type).unwrap_or(ComfyType::Int8))
        })?;
        for (tensor, _) in model.tensors().iter().zip(&*choices).filter(|(_, choice)| choice.kind.is_some()) {
            let rule = PatternRule::last_match(&spec.comfy_type_for, &tensor.name);
            if let Some(rule) = rule.filter(|rule| rule.value.is_packed() && detection.reads(&tensor.name)) {
                let problem = format!(
                    "'{rule}' would pack '{}', whose shape ComfyUI reads to recognize the model; int8, fp8 and mxfp8 keep it",
                    tensor.name
                );
                return Err(SpecError::new("comfy_type_for", problem).into());
            }
        }
        Ok(())
    }

    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
        plan(model, choices, spec).map(Some)
    }
}

/// Plans the files. A layer that its type cannot hold takes 8 bits or stays, and its note says so. Tensors whose scale is one
/// for all rows are read.
///
/// # Errors
/// A weight of those is not finite, a file cannot be read, or the header would be longer than the format allows.
fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Export, IoError> {
    let detection = Detection::new()?;
    let mut layers: Vec<Option<Comfy>> = Vec::with_capacity(choices.len());
    for (tensor, choice) in model.tensors().iter().zip(&mut *choices) {
        let Some(FormatType::Comfy(asked)) = choice.kind else {
            layers.push(None);
            continue;
        };
        let (layer, note) = fitted(tensor, asked, detection.reads(&tensor.name), spec);
        choice.say(note);
        if layer.is_none() {
            choice.options = None;
        }
        layers.push(layer);
    }
    let scaled =
        layers.iter().enumerate().filter(|(_, layer)| layer.is_some_and(|layer| layer.layout.has_tensor_scale()));
    let scaled: Vec<usize> = scaled.map(|(number, _)| number).collect();
    let largest = magnitudes::largest(model, &scaled)?;
    for number in scaled {
        if let Some(layer) = &mut layers[number] {
            layer.scale = tensor_scale(layer.layout, largest[number]).to_bits();
        }
    }
    let encoding = |(tensor, layer): (&Tensor, &Option<Comfy>)| match layer {
        Some(layer) => Some(Encoding::Comfy(*layer)),
        None if tensor.is_plain() && !is_decoded(tensor) => None,
        None => float_of(tensor.dtype).map(Encoding::Float),
    };
    let encodings: Vec<Option<Encoding>> = model.tensors().iter().zip(&layers).map(encoding).collect();
    for (choice, layer) in choices.iter_mut().zip(&layers) {
        choice.stored = layer.map(Encoding::Comfy);
    }
    let left_out = leave_out_companions(model, choices, spec)?;
    let mut tensors = Vec::new();
    let mut markers = serde_json::Map::new();
    for (source, (tensor, encoding)) in model.tensors().iter().zip(&encodings).enumerate() {
        if left_out[source] {
            continue;
        }
        match encoding {
            Some(Encoding::Comfy(layer)) => {
                let module = tensor.name.strip_suffix(".weight").unwrap_or(&tensor.name);
                tensors.extend(of_layer(source, module, tensor, *layer)?);
                markers.insert(module.to_owned(), marker(*layer));
            }
            other => tensors.push(NewTensor::carried(source, tensor, *other)),
        }
    }
    let exports = encodings.into_iter().map(|encoding| TensorExport { encoding, ..TensorExport::default() });
    let exports = exports.collect();
    let mut layout = laid_out(model, &tensors, spec, &markers)?;
    layout.texts.extend(config_without_quantization(model));
    Ok(Export { tensors: exports, layout: Arc::new(layout) })
}

/// Lays out the files. The header repeats the markers where there is one file and no tensor has a prefix, which loaders take away
/// from tensors alone.
fn laid_out(
    model: &Model,
    tensors: &[NewTensor],
    spec: &Spec,
    markers: &serde_json::Map<String, Value>,
) -> Result<Layout, IoError> {
    let layout = lay_out(model, tensors, spec.shard_bytes())?;
    let has_prefix =
        |name: &String| ["model.", "diffusion_model.", "net."].iter().any(|prefix| name.starts_with(prefix));
    if layout.files.len() > 1 || markers.is_empty() || markers.keys().any(has_prefix) {
        return Ok(layout);
    }
    let said = json!({ "format_version": "1.0", "layers": markers }).to_string();
    lay_out_with(model, tensors, spec.shard_bytes(), &[(METADATA.to_owned(), said)])
}
