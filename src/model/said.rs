//! The configuration beside a model, and what it says of how it is quantized.

use std::path::Path;

use serde_json::{Map, Value};

use super::discover::CONFIG;

/// The keys of `config.json` that say how a model is quantized; MLX writes the second.
const KEYS: [&str; 3] = ["quantization_config", "quantization", "compression_config"];

/// Files beside `config.json` that say how a model is quantized, and nothing else.
pub const SIDE_FILES: [&str; 3] = ["hf_quant_config.json", "quantize_config.json", "quant_config.json"];

/// Reads the `config.json` of a folder; null where there is none that is JSON.
#[must_use]
pub fn config(folder: &Path) -> Value {
    let text = std::fs::read(folder.join(CONFIG)).ok();
    text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Lists the values of `model_type`, at the top of a configuration and in the configurations of parts of the model.
#[must_use]
pub fn architectures(config: &Value) -> Vec<String> {
    let parts = config.as_object().into_iter().flat_map(Map::values);
    let types = std::iter::once(config).chain(parts).filter_map(|part| part.get("model_type")?.as_str());
    types.map(str::to_owned).collect()
}

/// Lists what a configuration says of quantization, at its top and in the configurations of parts of the model.
#[must_use]
pub fn quantization(config: &Value) -> Vec<&Value> {
    let parts = config.as_object().into_iter().flat_map(Map::values);
    let objects = std::iter::once(config).chain(parts).filter_map(Value::as_object);
    objects.flat_map(|object| KEYS.iter().filter_map(|key| object.get(*key))).filter(|said| said.is_object()).collect()
}

/// Takes out what a configuration says of quantization, and tells whether there was anything.
pub fn forget_quantization(config: &mut Map<String, Value>) -> bool {
    let forget = |object: &mut Map<String, Value>| KEYS.iter().filter(|key| object.remove(**key).is_some()).count();
    let mut removed = forget(config);
    for part in config.values_mut().filter_map(Value::as_object_mut) {
        removed += forget(part);
    }
    removed > 0
}

/// Returns the height and width of the blocks that share a scale, where the configuration says it: `weight_block_size` of
/// fp8, `block_structure` of compressed-tensors.
#[must_use]
pub fn blocks(config: &Value) -> Option<[usize; 2]> {
    let of = |value: &Value| {
        let side = |at: usize| usize::try_from(value.get(at)?.as_u64()?).ok().filter(|side| *side > 0);
        Some([side(0)?, side(1)?])
    };
    quantization(config).into_iter().find_map(|said| {
        let groups = said["config_groups"].as_object().into_iter().flat_map(Map::values);
        of(&said["weight_block_size"]).or_else(|| groups.map(|group| &group["weights"]["block_structure"]).find_map(of))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_said_at_the_top_and_in_parts_is_found_and_forgotten() {
        let mut config = json!({
            "quantization": {"bits": 4},
            "text_config": {"quantization_config": {"quant_method": "gptq"}, "hidden_size": 4},
            "quantization_config": null,
        });
        assert_eq!(quantization(&config), [&json!({"bits": 4}), &json!({"quant_method": "gptq"})]);
        assert!(forget_quantization(config.as_object_mut().unwrap()));
        assert_eq!(config, json!({"text_config": {"hidden_size": 4}}));
        assert!(!forget_quantization(config.as_object_mut().unwrap()));
    }

    #[test]
    fn architectures_are_those_of_the_whole_and_of_its_parts() {
        let config =
            json!({"model_type": "llava", "vision_config": {"model_type": "siglip"}, "text_config": {}, "a": 1});
        assert_eq!(architectures(&config), ["llava", "siglip"]);
        assert_eq!(architectures(&json!(null)), [""; 0]);
    }

    #[test]
    fn the_sides_of_blocks_are_those_that_are_said() {
        let fp8 = json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [64, 32]}});
        assert_eq!(blocks(&fp8), Some([64, 32]));
        let group = json!({"weights": {"block_structure": [128, 256]}});
        assert_eq!(blocks(&json!({"quantization_config": {"config_groups": {"group_0": group}}})), Some([128, 256]));
        for other in [json!(null), json!([128]), json!([0, 128]), json!("128")] {
            assert_eq!(blocks(&json!({"quantization_config": {"weight_block_size": other}})), None);
        }
    }
}
