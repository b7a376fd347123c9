//! Models on disk.

use std::path::Path;

use ::safetensors::{Dtype as Reference, tensor::TensorView};

use crate::storage::dtype::Dtype;

/// Writes a safetensors file of tensors of a dtype, a shape and bytes.
pub(crate) fn write(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        let dtype: Reference = serde_json::from_str(&format!("\"{dtype}\"")).unwrap();
        (*name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap())
    });
    std::fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}
