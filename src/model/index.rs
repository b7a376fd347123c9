//! The index of a folder of shards: which file holds which tensor.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::DeserializeSeed};

use crate::storage::{error::IoError, safetensors::json::StringMap};

/// A `*.safetensors.index.json`.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    weight_map: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(deserialize_with = "pairs")]
    weight_map: Vec<(String, String)>,
}

fn pairs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    StringMap.deserialize(deserializer)
}

impl Index {
    /// Reads an index.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is no index.
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let text = std::fs::read(path).map_err(IoError::system("read", path))?;
        let fields: Fields = serde_json::from_slice(&text).map_err(|error| {
            IoError::file(path, format!("is not an index; it must have a weight_map of tensor to file: {error}"))
        })?;
        Ok(Self { path: path.to_owned(), weight_map: fields.weight_map })
    }

    /// Returns the files that it names, sorted.
    ///
    /// # Errors
    /// Returns an error if it names no file, one that is missing, or one outside the folder.
    pub fn files(&self, folder: &Path) -> Result<Vec<String>, IoError> {
        let files: BTreeSet<&String> = self.weight_map.iter().map(|(_, file)| file).collect();
        if files.is_empty() {
            return Err(IoError::file(&self.path, "names no tensor"));
        }
        for file in &files {
            let mut components = Path::new(file.as_str()).components();
            if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
                return Err(IoError::file(&self.path, format!("names '{file}', which is not a file of its folder")));
            }
            if !folder.join(file).exists() {
                return Err(IoError::file(&self.path, format!("names '{file}', which is missing")));
            }
        }
        Ok(files.into_iter().cloned().collect())
    }

    /// Compares the index with what the files hold; `file_of` gives the file that holds a tensor.
    ///
    /// # Errors
    /// Returns an error if a tensor is missing or in another file.
    pub fn check<'a>(&self, file_of: impl Fn(&str) -> Option<&'a str>) -> Result<(), IoError> {
        for (tensor, file) in &self.weight_map {
            match file_of(tensor) {
                Some(actual) if actual == file => {}
                Some(actual) => {
                    let problem = format!("should be in {file} and is in {actual}");
                    return Err(IoError::tensor(&self.path, tensor, problem));
                }
                None => {
                    return Err(IoError::tensor(&self.path, tensor, format!("should be in {file} and is missing")));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(text: &str) -> Result<(Index, tempfile::TempDir), IoError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        std::fs::write(&path, text).unwrap();
        Ok((Index::read(&path)?, folder))
    }

    #[test]
    fn what_is_no_index_says_what_one_has() {
        for text in ["", "{", "[]", "{}", r#"{"weight_map":[]}"#, r#"{"weight_map":{"a":1}}"#] {
            let message = index(text).map(drop).unwrap_err().to_string();
            assert!(message.contains("it must have a weight_map of tensor to file"), "{message}");
        }
        let twice = index(r#"{"weight_map":{"a":"x","a":"y"}}"#).map(drop).unwrap_err().to_string();
        assert!(twice.contains("'a' is there twice"), "{twice}");
    }

    #[test]
    fn files_that_are_missing_or_elsewhere_are_refused() {
        for (text, expected) in [
            (r#"{"weight_map":{}}"#, "names no tensor"),
            (r#"{"weight_map":{"a":"x.safetensors"}}"#, "names 'x.safetensors', which is missing"),
            (r#"{"weight_map":{"a":"../x"}}"#, "names '../x', which is not a file of its folder"),
            (r#"{"weight_map":{"a":"/x"}}"#, "names '/x', which is not a file of its folder"),
            (r#"{"weight_map":{"a":""}}"#, "names '', which is not a file of its folder"),
        ] {
            let (index, folder) = index(text).unwrap();
            let message = index.files(folder.path()).unwrap_err().to_string();
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
