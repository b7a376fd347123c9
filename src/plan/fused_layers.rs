//! Layers that engines fuse into one, and so load with one width alone.

use std::collections::BTreeMap;

use super::selection::Choice;
use crate::model::Model;

/// The layers that vLLM and `SGLang` fuse, by the last part of their names.
const FUSED: [&[&str]; 5] = [
    &["q_proj", "k_proj", "v_proj"],
    &["query", "key", "value"],
    &["gate_proj", "up_proj"],
    &["w1", "w3"],
    &["q_a_proj", "kv_a_proj_with_mqa"],
];

/// The tensors of layers that engines fuse, by the module above them and the line of [`FUSED`], each with the last part of its name.
type Groups<'a> = BTreeMap<(&'a str, usize), Vec<(&'a str, usize)>>;

fn groups(model: &Model) -> Groups<'_> {
    let mut groups = Groups::new();
    for (number, tensor) in model.tensors().iter().enumerate() {
        let module = tensor.name.strip_suffix(".weight").and_then(|module| module.rsplit_once('.'));
        let Some((parent, layer)) = module else { continue };
        if let Some(line) = FUSED.iter().position(|layers| layers.contains(&layer)) {
            groups.entry((parent, line)).or_default().push((layer, number));
        }
    }
    groups
}

/// Returns the tensors of each group of layers that engines fuse.
#[must_use]
pub fn fused(model: &Model) -> Vec<Vec<usize>> {
    groups(model).into_values().map(|layers| layers.into_iter().map(|(_, number)| number).collect()).collect()
}

/// Returns a line on the layers that engines fuse and that have different widths; `None` where there are none.
#[must_use]
pub fn fused_apart(model: &Model, choices: &[Choice]) -> Option<String> {
    let width = |number: usize| match &choices[number].options {
        None => "not quantized".to_owned(),
        Some(options) if options.is_per_row() => format!("{} bits", options.bits),
        Some(options) => format!("{} bits in groups of {}", options.bits, options.group_size()),
    };
    let mut found = groups(model);
    found.retain(|_, layers| layers.windows(2).any(|pair| width(pair[0].1) != width(pair[1].1)));
    let ((parent, _), layers) = found.first_key_value()?;
    let layers: Vec<String> = layers.iter().map(|(layer, number)| format!("{layer} {}", width(*number))).collect();
    let more = if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() };
    Some(format!(
        "vLLM fuses these layers and will refuse them, since their widths differ: {parent} ({}){more}",
        layers.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plan::{selection::Selection, spec::Spec},
        storage::dtype::Dtype,
        testing::models::write,
    };

    #[test]
    fn layers_of_one_width_are_no_trouble_and_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let names: Vec<String> =
            ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"]
                .iter()
                .flat_map(|name| (0..2).map(move |layer| format!("layers.{layer}.{name}.weight")))
                .collect();
        let bytes = vec![0; 64 * 4];
        let tensors: Vec<_> = names.iter().map(|name| (name.as_str(), Dtype::F32, &[2, 32][..], &bytes[..])).collect();
        write(&path, &tensors);
        let model = Model::open(&path).unwrap();
        let line = |bits_for: &[&str], exclude: &[&str]| {
            let bits_for = bits_for.iter().map(|rule| rule.parse().unwrap()).collect();
            let exclude = exclude.iter().map(|pattern| pattern.parse().unwrap()).collect();
            let spec = Spec { exclude, bits_for, ..Spec::default() };
            fused_apart(&model, &Selection(&spec).choose(&model).unwrap())
        };
        assert_eq!(line(&[], &[]), None);
        assert_eq!(line(&["mlp=8", "layers.0=2"], &[]), None);
        let both = line(&["q_proj=8"], &["layers.1.mlp.up_proj"]).unwrap();
        assert!(both.contains("differ: layers.0.self_attn (k_proj 4 bits in groups of 32, q_proj 8 bits in"), "{both}");
        assert!(both.ends_with(", and 2 more"), "{both}");
        let one = line(&[], &["layers.1.mlp.up_proj"]).unwrap();
        assert!(one.ends_with("layers.1.mlp (gate_proj 4 bits in groups of 32, up_proj not quantized)"), "{one}");
    }
}
