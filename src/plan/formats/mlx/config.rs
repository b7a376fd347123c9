//! The entries of `config.json` on the layers, as mlx-lm reads them.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::{
    model::Model,
    plan::selection::Choice,
    types::{Encoding, Mlx},
};

/// Returns the entry: what is said of all layers, which is what most weights have, and of each layer that has other bits, or none. `None`
/// means that nothing is quantized.
pub fn quantization(model: &Model, choices: &[Choice]) -> Option<Value> {
    let layers: Vec<(&str, Option<Value>, usize)> = model
        .tensors()
        .iter()
        .zip(choices)
        .filter(|(tensor, choice)| choice.stored.is_some() || tensor.shape.len() == 2)
        .filter_map(|(tensor, choice)| {
            Some((tensor.name.strip_suffix(".weight")?, planned(choice).map(said), tensor.elements()))
        })
        .collect();
    let mut weights: HashMap<String, usize> = HashMap::new();
    for (_, said, elements) in &layers {
        if let Some(said) = said {
            *weights.entry(said.to_string()).or_default() += elements;
        }
    }
    let most = layers.iter().filter_map(|(_, said, _)| said.as_ref());
    let most = most.max_by_key(|said| weights.get(&said.to_string()).copied().unwrap_or_default())?.clone();
    let mut quantization: Map<String, Value> = most.as_object().cloned().unwrap_or_default();
    for (module, said, _) in layers {
        if said.as_ref() != Some(&most) {
            quantization.insert(module.to_owned(), said.unwrap_or(Value::Bool(false)));
        }
    }
    Some(Value::Object(quantization))
}

/// Returns the codes that are planned for a tensor.
pub fn planned(choice: &Choice) -> Option<Mlx> {
    match choice.stored? {
        Encoding::Mlx(mlx) => Some(mlx),
        _ => None,
    }
}

fn said(mlx: Mlx) -> Value {
    json!({ "group_size": mlx.group_size, "bits": mlx.kind.bits(), "mode": mlx.kind.mode() })
}
