//! Plain safetensors: every tensor as floats, the quantized ones rounded to what their codes decode to.

use std::sync::Arc;

use super::{
    config::config_without_quantization,
    export::{Export, TensorExport, is_decoded, leave_out_companions},
    format::Format,
    shards::{NewTensor, lay_out},
};
use crate::{
    model::{
        Model,
        tensor::{Scale, Tensor},
    },
    plan::{selection::Choice, spec::Spec},
    storage::{
        dtype::{dtype_of, float_of},
        error::IoError,
    },
    types::{Encoding, Float},
};

/// Safetensors, every tensor as floats.
pub struct Safetensors;

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn summary(&self) -> &'static str {
        "floats, rounded to what the codes decode to"
    }

    fn options(&self) -> &'static [&'static str] {
        &["bits", "bits_for", "group_size", "method", "symmetric", "dtype", "shard_size", "equalize"]
    }

    fn loads_in_pipeline(&self, _library: &str) -> bool {
        true
    }

    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError> {
        plan(model, choices, spec).map(Some)
    }
}

/// Plans the files.
///
/// Floats are stored as `spec.dtype` says or as the source has them; fp8 tensors, whose scale is applied, and the codes
/// of a quantized source become what they stand for. What belongs to those is left out.
///
/// # Errors
/// The header would be longer than the format allows.
fn plan(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Export, IoError> {
    let mut exports: Vec<TensorExport> = Vec::with_capacity(choices.len());
    for (tensor, choice) in model.tensors().iter().zip(&*choices) {
        exports.push(TensorExport {
            rounded: choice.options,
            encoding: encoding(tensor, choice, spec.dtype),
            name: None,
        });
    }
    let left_out = leave_out_companions(model, choices, spec)?;
    let mut tensors = Vec::new();
    for (source, (tensor, export)) in model.tensors().iter().zip(&exports).enumerate() {
        if left_out[source] {
            continue;
        }
        tensors.push(NewTensor::carried(source, tensor, export.encoding));
    }
    let mut layout = lay_out(model, &tensors, spec.shard_bytes())?;
    layout.texts.extend(config_without_quantization(model));
    Ok(Export { tensors: exports, layout: Arc::new(layout) })
}

/// Returns the encoding of the rows of a tensor. `None` means as they are.
fn encoding(tensor: &Tensor, choice: &Choice, asked: Option<Float>) -> Option<Encoding> {
    let float = float_of(tensor.dtype).filter(|_| !matches!(tensor.scale, Scale::Unknown(_)))?;
    let change = asked.is_some_and(|dtype| dtype_of(dtype) != tensor.dtype);
    // Without its scale an fp8 tensor means nothing, and config.json says no more that there is one.
    let decode = !tensor.is_plain() || is_decoded(tensor);
    (choice.options.is_some() || decode || change).then(|| Encoding::Float(asked.unwrap_or(float)))
}
