//! The configuration of a model, as formats write it.

use serde_json::{Map, Value};

use crate::{
    model::{Model, discover::CONFIG, said, tensor::Tensor},
    storage::{error::IoError, file_layout::Layout},
};

/// Returns `config.json` without what it says of quantization, and its name; none where it says nothing of it.
pub fn config_without_quantization(model: &Model) -> Option<(String, Vec<u8>)> {
    let Value::Object(mut config) = said::config(model.folder()) else { return None };
    let text = |config: Value| (CONFIG.to_owned(), format!("{config:#}\n").into_bytes());
    said::forget_quantization(&mut config).then(|| text(Value::Object(config)))
}

/// Reads `config.json` without what it says of quantization, which `engine` reads there.
///
/// # Errors
/// Returns an error if it is missing, cannot be read, or is no JSON object.
pub fn read_config(model: &Model, engine: &str) -> Result<Map<String, Value>, IoError> {
    let path = model.folder().join(CONFIG);
    if !path.exists() {
        let problem = format!("is missing: {engine} writes into it how the model is quantized, and loaders look there");
        return Err(IoError::file(&path, problem));
    }
    let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
    let mut config: Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| IoError::file(&path, format!("is not a JSON object: {error}")))?;
    // What this library reads is decoded, and written anew.
    said::forget_quantization(&mut config);
    Ok(config)
}

/// Puts `config.json` into a layout.
pub fn put(layout: &mut Layout, config: Map<String, Value>) {
    layout.texts.push((CONFIG.to_owned(), format!("{:#}\n", Value::Object(config)).into_bytes()));
}

/// The `model_type` of models whose linear layers are `Conv1D` of transformers.
const CONV1D: [&str; 5] = ["gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"];

/// Returns true if a tensor is the weight of a `Conv1D`: its rows are inputs.
pub fn is_transposed(config: &Map<String, Value>, tensor: &Tensor) -> bool {
    let layers = ["attn.c_attn", "attn.q_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];
    let conv1d = config.get("model_type").and_then(Value::as_str).is_some_and(|model| CONV1D.contains(&model));
    let module = tensor.name.strip_suffix(".weight").unwrap_or_default();
    conv1d && layers.iter().any(|layer| module.ends_with(layer))
}
