//! Layers that `ComfyUI` marks as quantized, as the tensors that they stand for.
//!
//! A layer `m` is marked by a tensor `m.comfy_quant`, whose bytes are a JSON object, or by an entry of that name in the header
//! under `_quantization_metadata`. Layers of fp8 with one scale are read as other fp8 tensors are.

mod layer;
mod parts;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::Value;

use super::tensor::Tensor;
use crate::storage::error::IoError;
use layer::{Layer, Problem};
pub use parts::parts;

/// The end of the name of a marker.
pub const MARKER: &str = ".comfy_quant";

/// The key of the header that marks layers.
pub const METADATA: &str = "_quantization_metadata";

/// Puts a tensor `m.weight` in the place of the weight of every marked layer, without the tensors that decode it.
///
/// `read` gives the bytes of a tensor, `path` its file, `said` the values of [`METADATA`] in the headers.
///
/// # Errors
/// A marker is no JSON object, says another thing than the header, or does not fit the tensors of its layer; a tensor of a
/// layer is missing.
pub fn unpack<'p>(
    tensors: Vec<Tensor>,
    read: impl Fn(&Tensor) -> Result<Vec<u8>, IoError>,
    path: impl Fn(&Tensor) -> &'p Path,
    said: &[&str],
) -> Result<Vec<Tensor>, IoError> {
    let by_name: HashMap<&str, &Tensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut marked: Vec<(String, Value)> = Vec::new();
    let mut at: HashMap<String, usize> = HashMap::new();
    for tensor in &tensors {
        let Some(layer) = tensor.name.strip_suffix(MARKER) else { continue };
        let marker = serde_json::from_slice::<Value>(&read(tensor)?).ok().filter(Value::is_object);
        let is_plain = by_name.get(format!("{layer}.weight").as_str()).is_none_or(|weight| weight.dtype.is_float());
        match marker {
            Some(marker) => {
                at.insert(layer.to_owned(), marked.len());
                marked.push((layer.to_owned(), marker));
            }
            None if is_plain => {}
            None => return Err(IoError::tensor(path(tensor), &tensor.name, "must hold a JSON object")),
        }
    }
    for (layer, entry) in in_header(said) {
        match at.get(&layer) {
            None => marked.push((layer, entry)),
            Some(number) if marked[*number].1 == entry => {}
            Some(_) => {
                let marker = format!("{layer}{MARKER}");
                let file = by_name.get(marker.as_str()).map_or(Path::new(METADATA), |tensor| path(tensor));
                let problem = format!("says another thing than '{METADATA}' in the header");
                return Err(IoError::tensor(file, &marker, problem));
            }
        }
    }
    let mut made: HashMap<String, Tensor> = HashMap::new();
    let mut used: HashSet<String> = HashSet::new();
    for (layer, marker) in marked {
        let name = format!("{layer}.weight");
        let Some(weight) = by_name.get(name.as_str()).copied() else { continue };
        let find = |suffix: &str| by_name.get(format!("{layer}.{suffix}").as_str()).copied();
        let layer_of = Layer { weight, marker: &marker, find: &find, read: &read };
        let made_of = layer_of.tensor().map_err(|problem| match problem {
            Problem::Read(error) => error,
            Problem::Layer(problem) => IoError::tensor(path(weight), &name, problem),
        })?;
        let Some((tensor, suffixes)) = made_of else { continue };
        used.extend(suffixes.iter().map(|suffix| format!("{layer}.{suffix}")));
        used.insert(format!("{layer}{MARKER}"));
        made.insert(name, tensor);
    }
    if made.is_empty() {
        return Ok(tensors);
    }
    let kept = tensors.iter().filter(|tensor| !used.contains(&tensor.name));
    Ok(kept.map(|tensor| made.remove(&tensor.name).unwrap_or_else(|| tensor.clone())).collect())
}

/// Returns the layers that headers mark.
fn in_header(said: &[&str]) -> Vec<(String, Value)> {
    let values = said.iter().filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let layers = values.filter_map(|mut value| match value["layers"].take() {
        Value::Object(layers) => Some(layers),
        _ => None,
    });
    layers.flatten().filter(|(_, entry)| entry.is_object()).collect()
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Model,
        storage::dtype::Dtype::{self, BF16, F8_E4M3, F32, I8, U8},
        testing::models::write,
    };

    type Tensors<'a> = Vec<(&'a str, Dtype, &'a [usize], &'a [u8])>;

    fn opened(tensors: &Tensors<'_>) -> Result<Model, String> {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("model.safetensors");
        write(&path, tensors);
        Model::open(&path).map_err(|error| error.to_string())
    }

    const ROWS: &[u8] = br#"{"format":"int8_tensorwise"}"#;
    const W4A8: &[u8] = br#"{"format":"asym_w4a8_int8","group_size":16,"convrot":true,"convrot_groupsize":16}"#;
    const NVFP4: &[u8] = br#"{"params":{},"format":"nvfp4"}"#;
    const FAST: &[u8] = br#"{"convrot":true,"convrot_groupsize":16,"per_row":true}"#;

    #[test]
    fn marked_layers_are_the_weights_that_they_stand_for() {
        let lengths = [ROWS, FAST, W4A8, NVFP4].map(|marker| [marker.len()]);
        let (ones, tile) = (1f32.to_le_bytes().repeat(2), vec![0x38; 512]);
        let tensors: Tensors<'_> = vec![
            ("a.weight", I8, &[2, 16], &[1; 32]),
            ("a.weight_scale", F32, &[2, 1], &ones),
            ("a.comfy_quant", U8, &lengths[0], ROWS),
            ("b.weight", I8, &[2, 16], &[1; 32]),
            ("b.weight_scale", F32, &[], &ones[..4]),
            ("b.comfy_quant", U8, &lengths[1], FAST),
            ("c.weight", I8, &[2, 8], &[0x99; 16]),
            ("c.weight_s_rel", F8_E4M3, &[2, 1], &[0x38; 2]),
            ("c.weight_s_channel", F32, &[2], &ones),
            ("c.comfy_quant", U8, &lengths[2], W4A8),
            ("d.weight", U8, &[2, 8], &[0x22; 16]),
            ("d.weight_scale", F8_E4M3, &[128, 4], &tile),
            ("d.weight_scale_2", F32, &[], &ones[..4]),
            ("d.comfy_quant", U8, &lengths[3], NVFP4),
            ("d.bias", BF16, &[2], &[0; 4]),
        ];
        let model = opened(&tensors).unwrap();
        let kinds: Vec<_> = model.tensors().iter().map(|tensor| (tensor.name.as_str(), tensor.dtype_name())).collect();
        for kind in [
            ("a.weight", "COMFY_INT8"),
            ("b.weight", "COMFY_INT8"),
            ("c.weight", "COMFY_W4A8"),
            ("d.weight", "COMFY_NVFP4"),
            ("d.bias", "BF16"),
        ] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
        assert_eq!(kinds.len(), 5);
        assert_eq!(model.tensor("d.weight").unwrap().shape, [2, 16]);
    }

    #[test]
    fn contradictory_and_incomplete_layers_are_errors_that_name_them() {
        let lengths = [ROWS, FAST, W4A8, NVFP4].map(|marker| [marker.len()]);
        let scale = 1f32.to_le_bytes();
        let other = br#"{"format":"int2_tensorwise"}"#;
        for (tensors, expected) in [
            (vec![("a.comfy_quant", U8, &[28][..], ROWS)], "lacks its weight_scale"),
            (
                vec![("a.comfy_quant", U8, &[28], ROWS), ("a.weight_scale", F32, &[3], &[0; 12][..])],
                "its weight_scale is F32 of shape [3], not F32 of [2, 1]",
            ),
            (vec![("a.comfy_quant", U8, &[28], &other[..])], "marked as 'int2_tensorwise'"),
            (vec![("a.comfy_quant", U8, &[2], b"[]")], "must hold a JSON object"),
            (
                vec![("a.comfy_quant", U8, &lengths[3], NVFP4), ("a.weight_scale_2", F32, &[], &scale)],
                "its weight is I8 of shape [2, 16], not U8",
            ),
            (vec![("a.comfy_quant", U8, &lengths[2], W4A8)], "lacks its weight_s_rel"),
        ] {
            let mut tensors: Tensors<'_> = tensors;
            tensors.push(("a.weight", I8, &[2, 16], &[1; 32]));
            let error = opened(&tensors).unwrap_err();
            assert!(error.contains("tensor 'a.") && error.contains(expected), "{error}");
        }
    }
}
