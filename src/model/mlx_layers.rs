//! Layers that MLX quantized, as the tensors that they stand for.
//!
//! Of a layer `m` there are `m.weight` in words of 32 bits, `m.scales`, and of integers `m.biases`. `config.json` has the bits of a
//! code and the weights of a group, of all layers or of one.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::Value;

use super::{layer_part::Part, said, tensor::Tensor};
use crate::{
    storage::{
        dtype::{Dtype, dtype_of},
        error::IoError,
        row_layout::Order,
    },
    types::{Encoding, Float, Method, Mlx, MlxType},
};

/// The tensors of a layer beside its weight.
const SCALES: &str = "scales";
const BIASES: &str = "biases";

/// Returns the tensors of a layer of a shape, in the order of the `shares` that a row is encoded as.
pub fn parts(mlx: Mlx, shape: &[usize], shares: &[usize]) -> Vec<Part> {
    let float: &[Dtype] = match (mlx.kind.block(), mlx.float) {
        (Some(_), _) => &[Dtype::U8],
        (None, Float::F16) => &[Dtype::F16],
        (None, Float::BF16) => &[Dtype::BF16],
        (None, Float::F32 | Float::F64) => &[Dtype::F32],
    };
    let names = [("weight", &[Dtype::U32][..], 4), (SCALES, float, 0), (BIASES, float, 0)];
    let part = |((suffix, dtypes, bytes), share): ((&'static str, &'static [Dtype], usize), &usize)| {
        let each = if bytes > 0 { bytes } else { dtypes[0].bits() / 8 };
        let mut shape = shape.to_vec();
        if let Some(last) = shape.last_mut() {
            *last = share / each;
        }
        Part { suffix, dtypes, shape, order: Order::Rows }
    };
    names.into_iter().zip(shares).map(part).collect()
}

/// Returns true if a tensor may be the codes of a layer.
pub fn is_packed(tensor: &Tensor) -> bool {
    tensor.dtype == Dtype::U32 && tensor.is_plain() && tensor.name.ends_with(".weight")
}

/// Puts a tensor `m.weight` in the place of the weight of every layer, without the tensors that decode it.
///
/// `path` gives the file of a tensor, `config` is `config.json`.
///
/// # Errors
/// The tensors of a layer do not fit each other or what the configuration says, or its bits and groups cannot be told.
pub fn unpack<'p>(
    tensors: Vec<Tensor>,
    path: impl Fn(&Tensor) -> &'p Path,
    config: &Value,
) -> Result<Vec<Tensor>, IoError> {
    let by_name: HashMap<&str, &Tensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let said = said::quantization(config).into_iter().find(|said| said["quant_method"].is_null());
    let mut made: HashMap<String, Tensor> = HashMap::new();
    let mut used: HashSet<String> = HashSet::new();
    for weight in tensors.iter().filter(|tensor| is_packed(tensor)) {
        let Some(module) = weight.name.strip_suffix(".weight") else { continue };
        let find = |suffix: &str| by_name.get(format!("{module}.{suffix}").as_str()).copied();
        let Some(scales) = find(SCALES) else { continue };
        let layer = Layer { module, weight, scales, find: &find, said };
        let tensor = layer.tensor().map_err(|problem| IoError::tensor(path(weight), &weight.name, problem))?;
        made.insert(weight.name.clone(), tensor);
        used.extend([SCALES, BIASES].map(|suffix| format!("{module}.{suffix}")));
    }
    if made.is_empty() {
        return Ok(tensors);
    }
    let kept = tensors.iter().filter(|tensor| !used.contains(&tensor.name));
    Ok(kept.map(|tensor| made.remove(&tensor.name).unwrap_or_else(|| tensor.clone())).collect())
}

/// A layer: its tensors, and what is said of it.
struct Layer<'a, 't> {
    module: &'a str,
    weight: &'t Tensor,
    scales: &'t Tensor,
    find: &'a dyn Fn(&str) -> Option<&'t Tensor>,
    /// The entry of the configuration on all layers.
    said: Option<&'a Value>,
}

impl Layer<'_, '_> {
    fn tensor(&self) -> Result<Tensor, String> {
        let (weight, scales) = (self.weight, self.scales);
        let (Some((words, leading)), Some(groups)) = (weight.shape.split_last(), scales.shape.last()) else {
            return Err("is a single number, with scales".to_owned());
        };
        if !matches!(weight.shape.len(), 2 | 3) || weight.elements() == 0 || scales.elements() == 0 {
            let shape = &weight.shape;
            return Err(format!("has scales and the shape {shape:?}; matrices and stacks of them are read"));
        }
        if (self.find)("global_scale").is_some() {
            return Err("has a global_scale, which is not read".to_owned());
        }
        let mlx = self.stored(*words, *groups)?;
        let length = groups.checked_mul(mlx.group_size as usize).ok_or("has rows that are too long")?;
        let shape: Vec<usize> = leading.iter().copied().chain([length]).collect();
        let shares = mlx.shares(length).unwrap_or_default();
        let kind = mlx.kind;
        let piece = |(part, share): (Part, usize)| {
            let tensor = if part.suffix == "weight" { Some(weight) } else { (self.find)(part.suffix) };
            let tensor = tensor.ok_or_else(|| format!("is codes of {kind} and lacks its {}", part.suffix))?;
            part.piece(tensor, weight.rows, share).map_err(|problem| format!("is codes of {kind}; {problem}"))
        };
        let pieces = parts(mlx, &shape, &shares).into_iter().zip(shares).map(piece).collect::<Result<_, _>>()?;
        if kind.block().is_some() && (self.find)(BIASES).is_some() {
            return Err(format!("has biases, and scales of U8, as codes of {kind} have; these have no biases"));
        }
        let tensor = Tensor::encoded(weight.name.clone(), dtype_of(mlx.float), shape, Encoding::Mlx(mlx), pieces);
        if tensor.is_cut() {
            return Err(format!("has rows of {length} codes, which are too long"));
        }
        Ok(tensor)
    }

    /// Returns how the layer is stored, from its shapes and what is said.
    fn stored(&self, words: usize, groups: usize) -> Result<Mlx, String> {
        let own = self.said.and_then(|said| said.get(self.module));
        if own.and_then(Value::as_bool) == Some(false) {
            return Err("has scales, and config.json says that it is not quantized".to_owned());
        }
        let own = own.filter(|own| own.is_object());
        let fits = |mlx: &Mlx| {
            words.checked_mul(32) == groups.checked_mul(mlx.group_size as usize * usize::from(mlx.kind.bits()))
        };
        let mode = |said: &Value| said["mode"].as_str().unwrap_or("affine").to_owned();
        let float = match self.scales.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            Dtype::F32 => Float::F32,
            Dtype::U8 => {
                let kinds = [MlxType::Mxfp4, MlxType::Mxfp8, MlxType::Nvfp4].map(|kind| Mlx::new(kind, 0));
                let found = kinds.into_iter().find(fits).ok_or_else(|| {
                    format!(
                        "has {words} words and {groups} scales of U8 a row, as neither mxfp4 nor mxfp8 nor nvfp4 has"
                    )
                })?;
                return match own.map(mode).filter(|mode| *mode != found.kind.mode()) {
                    Some(mode) => Err(format!("is codes of {}, and config.json says {mode}", found.kind)),
                    None => Ok(Mlx { method: Method::Minmax, ..found }),
                };
            }
            other => return Err(format!("has scales of {other}; F16, BF16, F32 and U8 are read")),
        };
        let said = own.or(self.said).ok_or("is codes of MLX, and config.json does not say of how many bits")?;
        if mode(said) != "affine" {
            let mode = mode(said);
            return Err(format!(
                "has scales of {}, and config.json says {mode}, whose scales are U8",
                self.scales.dtype
            ));
        }
        let (bits, size) = (&said["bits"], &said["group_size"]);
        let integers = MlxType::ALL.iter().filter(|kind| kind.block().is_none());
        let kind = integers.copied().find(|kind| bits.as_u64() == Some(u64::from(kind.bits())));
        let kind =
            kind.ok_or_else(|| format!("is codes of {bits} bits, as config.json says; 2, 3, 4, 5, 6 and 8 are read"))?;
        let known = Mlx::GROUP_SIZES.into_iter().find(|known| size.as_u64() == Some(u64::from(*known)));
        let size = known
            .ok_or_else(|| format!("is codes by groups of {size}, as config.json says; 32, 64 and 128 are read"))?;
        let mlx = Mlx { float, method: Method::Minmax, ..Mlx::new(kind, size) };
        if fits(&mlx) {
            Ok(mlx)
        } else {
            Err(format!(
                "has {words} words and {groups} scales a row, which are not codes of {bits} bits by groups of {size}, as \
                 config.json says"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        model::Model,
        storage::dtype::Dtype::{self, BF16, F16, U8, U32},
        testing::models::write,
    };

    type Tensors<'a> = Vec<(&'a str, Dtype, &'a [usize], &'a [u8])>;

    fn opened(tensors: &Tensors<'_>, config: &str) -> Result<Model, String> {
        let place = tempfile::tempdir().unwrap();
        write(&place.path().join("model.safetensors"), tensors);
        std::fs::write(place.path().join("config.json"), config).unwrap();
        Model::open(place.path()).map_err(|error| error.to_string())
    }

    const ZEROS: &[u8] = &[0; 256];

    #[test]
    fn layers_are_the_weights_that_they_stand_for() {
        let tensors: Tensors<'_> = vec![
            ("a.weight", U32, &[2, 8], &ZEROS[..64]),
            ("a.scales", BF16, &[2, 1], &ZEROS[..4]),
            ("a.biases", BF16, &[2, 1], &ZEROS[..4]),
            ("a.bias", BF16, &[2], &ZEROS[..4]),
            ("b.weight", U32, &[2, 3], &ZEROS[..24]),
            ("b.scales", F16, &[2, 1], &ZEROS[..4]),
            ("b.biases", F16, &[2, 1], &ZEROS[..4]),
            ("c.weight", U32, &[2, 4], &ZEROS[..32]),
            ("c.scales", U8, &[2, 1], &ZEROS[..2]),
            ("d.weight", U32, &[2, 2, 2], &ZEROS[..32]),
            ("d.scales", U8, &[2, 2, 1], &ZEROS[..4]),
            ("e.weight", U32, &[2, 2], &ZEROS[..16]),
        ];
        let config =
            r#"{"quantization": {"group_size": 64, "bits": 4, "b": {"group_size": 32, "bits": 3}, "e": false}}"#;
        let model = opened(&tensors, config).unwrap();
        let found: Vec<_> = model
            .tensors()
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.dtype_name(), tensor.dtype, tensor.shape.clone()))
            .collect();
        for expected in [
            ("a.weight", "MLX_INT4", BF16, vec![2, 64]),
            ("b.weight", "MLX_INT3", F16, vec![2, 32]),
            ("c.weight", "MLX_MXFP4", BF16, vec![2, 32]),
            ("d.weight", "MLX_NVFP4", BF16, vec![2, 2, 16]),
            ("a.bias", "BF16", BF16, vec![2]),
            ("e.weight", "U32", U32, vec![2, 2]),
        ] {
            assert!(found.contains(&expected), "{expected:?}: {found:?}");
        }
        assert_eq!(found.len(), 6);
    }

    #[test]
    fn contradictory_and_incomplete_layers_are_errors_that_name_them() {
        let weight = ("a.weight", U32, &[2, 8][..], &ZEROS[..64]);
        let scales = ("a.scales", F16, &[2, 1][..], &ZEROS[..4]);
        let biases = ("a.biases", F16, &[2, 1][..], &ZEROS[..4]);
        let said = |text: &str| format!(r#"{{"quantization": {text}}}"#);
        let four = said(r#"{"group_size": 64, "bits": 4}"#);
        for (tensors, config, expected) in [
            (vec![weight, scales], four.clone(), "is codes of int4 and lacks its biases"),
            (vec![weight, scales, biases], "{}".to_owned(), "config.json does not say of how many bits"),
            (vec![weight, scales, biases], said(r#"{"group_size": 64, "bits": 7}"#), "is codes of 7 bits"),
            (vec![weight, scales, biases], said(r#"{"group_size": 16, "bits": 4}"#), "by groups of 16"),
            (
                vec![weight, scales, biases],
                said(r#"{"group_size": 64, "bits": 8}"#),
                "has 8 words and 1 scales a row, which are not codes of 8 bits by groups of 64",
            ),
            (vec![weight, scales, biases], said(r#"{"group_size": 64, "bits": 4, "a": false}"#), "is not quantized"),
            (
                vec![weight, scales, biases],
                said(r#"{"group_size": 32, "bits": 4, "mode": "mxfp4"}"#),
                "config.json says mxfp4, whose scales are U8",
            ),
            (
                vec![weight, scales, ("a.biases", F16, &[1, 2], &ZEROS[..4])],
                four.clone(),
                "its biases is F16 of shape [1, 2], not F16 of [2, 1]",
            ),
            (
                vec![weight, ("a.scales", U8, &[2, 1], &ZEROS[..2]), biases],
                four.clone(),
                "has biases, and scales of U8",
            ),
            (vec![weight, ("a.scales", U8, &[2, 3], &ZEROS[..6])], four.clone(), "as neither mxfp4 nor mxfp8"),
            (
                vec![weight, ("a.scales", U8, &[2, 1], &ZEROS[..2])],
                said(r#"{"group_size": 64, "bits": 4, "a": {"mode": "nvfp4"}}"#),
                "is codes of mxfp8, and config.json says nvfp4",
            ),
            (vec![weight, ("a.scales", U32, &[2, 1], &ZEROS[..8])], four.clone(), "has scales of U32"),
            (vec![weight, scales, biases, ("a.global_scale", F16, &[1], &ZEROS[..2])], four, "has a global_scale"),
        ] {
            let error = opened(&tensors, &config).unwrap_err();
            assert!(error.contains("tensor 'a.weight'") && error.contains(expected), "{error}");
        }
    }
}
