//! The configuration of a model whose weights are decoded.

use serde_json::Value;

use crate::model::{Model, discover::CONFIG, said};

/// Returns `config.json` without what it says of quantization, and its name; none where it says nothing of it.
pub fn config_without_quantization(model: &Model) -> Option<(String, Vec<u8>)> {
    let Value::Object(mut config) = said::config(model.folder()) else { return None };
    let text = |config: Value| (CONFIG.to_owned(), format!("{config:#}\n").into_bytes());
    said::forget_quantization(&mut config).then(|| text(Value::Object(config)))
}
