//! The manifest of a run that begins.

use std::collections::BTreeMap;

use crate::{
    model::{Model, ModelFile, part::Part},
    storage::folder::manifest::{FORMAT_VERSION, Manifest, PartEntry, Source, TensorEntry, part_file},
};

/// Returns what tells the files of a model from others.
pub fn sources(model: &Model) -> Vec<Source> {
    let one = |file: &ModelFile| Source {
        name: file.name.clone(),
        bytes: file.bytes as u64,
        source_digest: file.source_digest.clone(),
    };
    model.files().iter().map(one).collect()
}

/// Returns the manifest of a run that begins. `names` are those of all files that it will write beside the parts.
pub fn new_manifest(
    model: &Model,
    parts: &[Part],
    output_format: &str,
    options: BTreeMap<String, serde_json::Value>,
    sql: String,
    names: Vec<String>,
) -> Manifest {
    let tensors = model.tensors().iter().map(|tensor| TensorEntry {
        name: tensor.name.clone(),
        dtype: model.dtype_name(tensor).to_owned(),
        shape: tensor.shape.clone(),
        bytes: None,
    });
    let parts = parts.iter().enumerate().map(|(number, part)| PartEntry {
        file: part_file(number, output_format.parse().ok()),
        rows: part.runs.iter().map(|run| (run.tensor, run.rows.start, run.rows.end)).collect(),
        bytes: None,
        digest: None,
    });
    Manifest {
        format_version: FORMAT_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        complete: false,
        output_format: output_format.to_owned(),
        options,
        sql,
        sources: sources(model),
        tensors: tensors.collect(),
        parts: parts.collect(),
        files: Vec::new(),
        names: Some(names),
    }
}
