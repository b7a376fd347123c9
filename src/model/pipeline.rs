//! A diffusers pipeline: a folder of models, and what goes with them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::discover::{PIPELINE, holds_model, names};
use crate::storage::error::IoError;

/// A part of a pipeline, in a folder of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The name of the folder.
    pub name: String,
    /// The library that loads it.
    pub library: String,
}

/// Returns the parts of a pipeline that have a folder, by name; none of a folder that is no pipeline.
///
/// # Errors
/// Returns an error if the file that names the parts cannot be read or is no JSON object.
pub fn components(folder: &Path) -> Result<Vec<Component>, IoError> {
    let path = folder.join(PIPELINE);
    if !folder.is_dir() || !path.is_file() {
        return Ok(Vec::new());
    }
    let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
    let index: serde_json::Map<String, Value> = serde_json::from_slice(&text)
        .map_err(|error| IoError::file(&path, format!("is not a JSON object: {error}")))?;
    let mut found = Vec::new();
    for (name, value) in index {
        let library = value.as_array().filter(|pair| pair.len() == 2).and_then(|pair| pair[0].as_str());
        if let Some(library) = library.filter(|_| is_name(&name) && folder.join(&name).is_dir()) {
            found.push(Component { library: library.to_owned(), name });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Returns the folder of a part of a pipeline.
///
/// # Errors
/// Returns an error that lists the parts if there is none of that name that holds a model.
pub fn component(folder: &Path, name: &str) -> Result<PathBuf, IoError> {
    let part = folder.join(name);
    if is_name(name) && holds_model(&part) {
        return Ok(part);
    }
    let mut parts = names(folder)?;
    parts.retain(|name| holds_model(&folder.join(name)));
    let there = if parts.is_empty() { "there are none".to_owned() } else { format!("there are {}", parts.join(", ")) };
    Err(IoError::file(folder, format!("has no part '{name}' that holds a model; {there}")))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\'])
}
