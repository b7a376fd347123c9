//! Safetensors files laid out from what goes into them: shards, headers, the index.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    model::{Model, tensor::Tensor},
    storage::{
        dtype::{Dtype, dtype_of},
        error::IoError,
        file_layout::{Layout, PlannedFile},
        row_layout::{Order, Piece},
        safetensors::writer::{HeadEntry, head},
    },
    types::Encoding,
};

/// The content of a new tensor.
#[derive(Debug, Clone)]
pub enum Content {
    /// A share of each row of a tensor of the model: the share's bytes, and how the shares follow each other.
    Rows {
        /// The bytes of a share.
        row_bytes: usize,
        /// The order of the shares.
        order: Order,
    },
    /// Bytes that are known.
    Known(Vec<u8>),
}

/// A tensor of the files to be.
#[derive(Debug, Clone)]
pub struct NewTensor {
    /// The tensor of the model that it is made from; those of one stay in one shard.
    pub source: usize,
    /// Its name.
    pub name: String,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The content.
    pub content: Content,
}

impl NewTensor {
    /// Returns a tensor that is not quantized: in floats of another dtype, or as stored.
    pub fn carried(source: usize, tensor: &Tensor, encoding: Option<Encoding>) -> Self {
        let (dtype, row_bytes) = match encoding {
            Some(Encoding::Float(float)) => (dtype_of(float), tensor.row_length * float.bytes()),
            _ => (tensor.dtype, tensor.row_bytes()),
        };
        let content = Content::Rows { row_bytes, order: Order::Rows };
        Self { source, name: tensor.name.clone(), dtype, shape: tensor.shape.clone(), content }
    }

    fn bytes(&self, model: &Model) -> usize {
        match &self.content {
            Content::Rows { row_bytes, order } => {
                let piece = Piece { file: 0, start: 0, row_bytes: *row_bytes, order: *order };
                piece.bytes(model.tensors()[self.source].rows)
            }
            Content::Known(bytes) => bytes.len(),
        }
    }
}

/// Lays out the tensors, given in the order of the model, in files of at most about `shard_bytes`. The shares of a
/// tensor are in the order in which they are given.
///
/// # Errors
/// Returns an error if two tensors would have one name, or a header would be longer than the format allows.
pub fn lay_out(model: &Model, tensors: &[NewTensor], shard_bytes: u64) -> Result<Layout, IoError> {
    lay_out_with(model, tensors, shard_bytes, &[])
}

/// Does the same as [`lay_out`], with pairs of text in the headers beside those of the model.
///
/// # Errors
/// Returns the errors of [`lay_out`].
pub fn lay_out_with(
    model: &Model,
    tensors: &[NewTensor],
    shard_bytes: u64,
    pairs: &[(String, String)],
) -> Result<Layout, IoError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(IoError::tensor(model.folder(), twice[0], "would be in the output twice"));
    }
    let shards = shards(model, tensors, shard_bytes);
    let stem = stem(model);
    let name = |shard: usize| match shards.len() {
        0 | 1 => format!("{stem}.safetensors"),
        n => format!("{stem}-{:05}-of-{n:05}.safetensors", shard + 1),
    };
    let mut layout = Layout { pieces: vec![Vec::new(); model.tensors().len()], ..Layout::default() };
    let mut places = vec![(0, 0); tensors.len()];
    for (shard, members) in shards.iter().enumerate() {
        let (file, starts) = file(model, tensors, members, name(shard), pairs)?;
        layout.files.push(file);
        for (member, start) in members.iter().zip(starts) {
            places[*member] = (shard, start);
        }
    }
    for (tensor, (file, start)) in tensors.iter().zip(&places) {
        if let Content::Rows { row_bytes, order } = tensor.content {
            layout.pieces[tensor.source].push(Piece { file: *file, start: *start, row_bytes, order });
        }
    }
    if shards.len() > 1 {
        let total: usize = tensors.iter().map(|tensor| tensor.bytes(model)).sum();
        let map: BTreeMap<&str, String> =
            tensors.iter().zip(&places).map(|(tensor, (file, _))| (tensor.name.as_str(), name(*file))).collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        layout.texts.push((format!("{stem}.safetensors.index.json"), format!("{index:#}\n").into_bytes()));
    }
    Ok(layout)
}

/// Returns the tensors of each file, by number: in order, cut where the next tensor of the model would pass the size.
fn shards(model: &Model, tensors: &[NewTensor], shard_bytes: u64) -> Vec<Vec<usize>> {
    let mut shards: Vec<Vec<usize>> = vec![Vec::new()];
    let mut filled = 0;
    let mut next = 0;
    while next < tensors.len() {
        let source = tensors[next].source;
        let end = (next..tensors.len()).find(|at| tensors[*at].source != source).unwrap_or(tensors.len());
        let bytes: u64 = tensors[next..end].iter().map(|tensor| tensor.bytes(model) as u64).sum();
        if filled > 0 && filled + bytes > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(shard) = shards.last_mut() {
            shard.extend(next..end);
        }
        next = end;
    }
    shards
}

/// Returns one file, and where each of its members begins in it.
fn file(
    model: &Model,
    tensors: &[NewTensor],
    members: &[usize],
    name: String,
    pairs: &[(String, String)],
) -> Result<(PlannedFile, Vec<usize>), IoError> {
    let entry = |member: &usize| {
        let tensor = &tensors[*member];
        HeadEntry { name: &tensor.name, dtype: tensor.dtype, shape: tensor.shape.clone(), bytes: tensor.bytes(model) }
    };
    let entries: Vec<HeadEntry> = members.iter().map(entry).collect();
    let mut metadata = metadata(model);
    metadata.extend_from_slice(pairs);
    let (head, starts) = head(&entries, &metadata).map_err(|problem| IoError::Request(format!("{name}: {problem}")))?;
    let bytes = head.len() + entries.iter().map(|entry| entry.bytes).sum::<usize>();
    let mut known = vec![(0, head)];
    for (member, start) in members.iter().zip(&starts) {
        if let Content::Known(bytes) = &tensors[*member].content {
            known.push((*start as u64, bytes.clone()));
        }
    }
    Ok((PlannedFile { name, bytes: bytes as u64, known }, starts))
}

/// Returns the metadata of a model's headers, except that of its quantization.
fn metadata(model: &Model) -> Vec<(String, String)> {
    let mut kept: Vec<(String, String)> = Vec::new();
    let files = model.files().iter().filter(|file| file.pairs.is_empty());
    for (key, value) in files.flat_map(|file| &file.metadata) {
        if !key.to_ascii_lowercase().contains("quantiz") && !kept.iter().any(|(known, _)| known == key) {
            kept.push((key.clone(), value.clone()));
        }
    }
    kept
}

/// Returns the name of the files that loaders look for: `model`, and in a diffusers folder its own name.
fn stem(model: &Model) -> &'static str {
    const DIFFUSERS: &str = "diffusion_pytorch_model";
    if model.files().iter().any(|file| file.name.starts_with(DIFFUSERS)) { DIFFUSERS } else { "model" }
}
