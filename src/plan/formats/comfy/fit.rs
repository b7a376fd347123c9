//! The layout that a layer gets: what was asked for, or the next one that holds it.

use super::options::ComfyType;
use crate::{
    model::tensor::Tensor,
    plan::spec::Spec,
    types::{Comfy, ComfyLayout},
};

/// Returns how a layer is stored, and what the report says of it. `None` means that it stays as it is.
pub fn fitted(tensor: &Tensor, asked: ComfyType, is_read: bool, spec: &Spec) -> (Option<Comfy>, String) {
    let (rows, length) = (tensor.rows, tensor.row_length);
    if tensor.shape.len() != 2 || !tensor.name.ends_with(".weight") {
        return (None, "ComfyUI reads linear layers alone quantized: tensors 'NAME.weight' of rank 2".to_owned());
    }
    let problem = if asked.is_packed() && is_read {
        Some("ComfyUI reads its shape to recognize the model".to_owned())
    } else if is_embedding(&tensor.name) && !matches!(asked.layout(), ComfyLayout::Int8 | ComfyLayout::Fp8) {
        Some("an embedding, which ComfyUI reads as int8 or fp8".to_owned())
    } else {
        let unit = match asked {
            ComfyType::Int8 | ComfyType::Int8Rows | ComfyType::Fp8 => 1,
            ComfyType::W4a8 | ComfyType::Nvfp4 => 16,
            ComfyType::W6a8 | ComfyType::Mxfp8 => 32,
            ComfyType::W4a4 => 64,
        };
        let across = match asked {
            ComfyType::Nvfp4 => 16,
            ComfyType::Mxfp8 => 32,
            _ => 1,
        };
        let fits = length.is_multiple_of(unit) && rows.is_multiple_of(across);
        (!fits).then(|| format!("{rows} rows of {length} do not divide as {asked} asks"))
    };
    match problem {
        None => (Some(stored(asked, length, spec)), asked.to_string()),
        Some(problem) if matches!(asked.layout(), ComfyLayout::Mxfp8) && !is_embedding(&tensor.name) => {
            (None, format!("stays in floats: {problem}"))
        }
        Some(problem) if matches!(asked, ComfyType::Nvfp4) && !is_read && !is_embedding(&tensor.name) => {
            (None, format!("stays in floats: {problem}"))
        }
        Some(problem) => (Some(stored(ComfyType::Int8, length, spec)), format!("int8 instead of {asked}: {problem}")),
    }
}

fn is_embedding(name: &str) -> bool {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let last = module.rsplit('.').next().unwrap_or(module);
    ["embed_tokens", "tok_embeddings", "word_embeddings", "token_embedding", "wte", "shared", "embedding"]
        .contains(&last)
}

fn stored(kind: ComfyType, length: usize, spec: &Spec) -> Comfy {
    let mut comfy = Comfy::new(kind.layout());
    if kind.layout().searches() {
        comfy.method = spec.method.unwrap_or(comfy.method);
    }
    if kind.layout().rotates() && kind != ComfyType::Int8Rows {
        let size = [256, 64, 16].into_iter().find(|size| length.is_multiple_of(*size as usize));
        comfy.rotation = size.unwrap_or(1);
    }
    comfy
}

/// Returns the scale of a tensor with a largest magnitude. Zeros have the scale 1: a division by 0 decodes to nothing.
pub fn tensor_scale(layout: ComfyLayout, largest: f32) -> f32 {
    let scale = largest / if layout == ComfyLayout::Nvfp4 { 2688.0 } else { 448.0 };
    if scale > 0.0 { scale } else { 1.0 }
}
