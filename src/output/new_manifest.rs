//! The manifest of a run that begins.

use std::collections::BTreeMap;

use crate::{
    model::{Model, part::Part},
    storage::folder::manifest::{FORMAT_VERSION, Manifest, PartEntry, Source, TensorEntry, part_file},
    types::OutputFormat,
};

/// Returns the manifest of a run that begins. `names` are those of all files that it will write beside the parts.
pub fn new_manifest(
    model: &Model,
    parts: &[Part],
    output_format: OutputFormat,
    options: BTreeMap<String, serde_json::Value>,
    sql: String,
    names: Vec<String>,
) -> Manifest {
    let sources = model.files().iter().map(|file| Source {
        name: file.name.clone(),
        bytes: file.bytes as u64,
        source_digest: file.source_digest.clone(),
    });
    let tensors = model.tensors().iter().map(|tensor| TensorEntry {
        name: tensor.name.clone(),
        dtype: model.dtype_name(tensor).to_owned(),
        shape: tensor.shape.clone(),
        bytes: None,
    });
    let parts = parts.iter().enumerate().map(|(number, part)| PartEntry {
        file: part_file(number, output_format),
        rows: part.runs.iter().map(|run| (run.tensor, run.rows.start, run.rows.end)).collect(),
        bytes: None,
        digest: None,
    });
    Manifest {
        format_version: FORMAT_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        complete: false,
        output_format,
        options,
        sql,
        sources: sources.collect(),
        tensors: tensors.collect(),
        parts: parts.collect(),
        files: Vec::new(),
        names: Some(names),
    }
}
