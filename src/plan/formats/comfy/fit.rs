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
    let layout = asked.layout();
    // What does not divide into blocks stays in floats; all else becomes int8.
    let (problem, stays) = if asked.is_packed() && is_read {
        ("ComfyUI reads its shape to recognize the model".to_owned(), false)
    } else if is_embedding(&tensor.name) && !matches!(layout, ComfyLayout::Int8 | ComfyLayout::Fp8) {
        ("an embedding, which ComfyUI reads as int8 or fp8".to_owned(), false)
    } else {
        let (unit, across) = match layout {
            ComfyLayout::Int8 | ComfyLayout::Fp8 => (1, 1),
            ComfyLayout::W4a8 => (16, 1),
            ComfyLayout::W6a8 => (32, 1),
            ComfyLayout::W4a4 => (64, 1),
            ComfyLayout::Nvfp4 => (16, 16),
            ComfyLayout::Mxfp8 => (32, 32),
        };
        if length.is_multiple_of(unit) && rows.is_multiple_of(across) {
            return (Some(stored(asked, length, spec)), asked.to_string());
        }
        (format!("{rows} rows of {length} do not divide as {asked} asks"), across > 1)
    };
    if stays {
        return (None, format!("stays in floats: {problem}"));
    }
    (Some(stored(ComfyType::Int8, length, spec)), format!("int8 instead of {asked}: {problem}"))
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
        comfy.method = spec.fixed_method().unwrap_or(comfy.method);
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
