//! A model on disk: its files and tensors, known from the headers; no weight is read.

mod discover;
mod index;
mod scale;
mod tables;
mod tensor;

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use arrow_buffer::Buffer;

pub use scale::Scale;
pub(in crate::io) use scale::blocks_of_row;
pub(in crate::io) use tables::{Labels, shapes};
pub use tensor::Tensor;

use super::{IoError, mmap::Contents, safetensors::Header};

/// A model: one safetensors file, or the shards of one folder.
#[derive(Debug)]
pub struct Model {
    folder: PathBuf,
    files: Vec<ModelFile>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    labels: Labels,
}

/// One file of a model.
#[derive(Debug)]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its name in the model's folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: usize,
    /// The BLAKE3 digest of its header and of samples of its data, in hex: it tells another checkpoint of the same
    /// shapes, not every single byte that was changed.
    pub source_digest: String,
    /// The pairs of its `__metadata__`.
    pub metadata: Vec<(String, String)>,
    contents: Contents,
}

impl Model {
    /// Opens a model and maps its files, which must not change while it is open (see [`super::mmap`]).
    ///
    /// `path` is a safetensors file, the `*.safetensors.index.json` of a folder of shards, such a folder with or without
    /// index, or a diffusers folder, of which `transformer/` or `unet/` is taken.
    ///
    /// # Errors
    /// There is no model at `path` (the message says what was looked for) or more than one (it lists them); a file is
    /// not safetensors; an index and its shards disagree; a tensor is there twice.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        Self::with(path, Contents::map)
    }

    /// Like [`Self::open`], with all files read to memory first.
    ///
    /// # Errors
    /// As [`Self::open`], and what reading gives.
    pub fn load(path: &Path) -> Result<Self, IoError> {
        Self::with(path, Contents::load)
    }

    fn with(path: &Path, contents: impl Fn(&Path) -> Result<Contents, IoError>) -> Result<Self, IoError> {
        let found = discover::find(path)?;
        let mut files = Vec::with_capacity(found.files.len());
        let mut tensors: Vec<Tensor> = Vec::new();
        let mut by_name: HashMap<String, usize> = HashMap::new();
        for name in found.files {
            let path = found.folder.join(&name);
            let contents = contents(&path)?;
            let header = Header::parse(contents.bytes(), &path)?;
            for entry in header.entries {
                if let Some(other) = by_name.insert(entry.name.clone(), tensors.len()) {
                    let other: &ModelFile = &files[tensors[other].file];
                    return Err(IoError::tensor(
                        &path,
                        &entry.name,
                        format!(
                            "is in {} too; give the path of one of the files, or an index that says which",
                            other.name
                        ),
                    ));
                }
                tensors.push(Tensor::new(entry, files.len()));
            }
            let source_digest = source_digest(&contents, header.data_start);
            let bytes = contents.bytes().len();
            files.push(ModelFile { path, name, bytes, source_digest, metadata: header.metadata, contents });
        }
        if let Some(index) = &found.index {
            index.check(|name| by_name.get(name).map(|tensor| files[tensors[*tensor].file].name.as_str()))?;
        }
        scale::assign(&mut tensors, &by_name);
        let labels = Labels::new(&tensors);
        Ok(Self { folder: found.folder, files, tensors, by_name, labels })
    }

    /// The folder that holds the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, by name.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// The tensors in the order of the files, and inside a file in the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|index| &self.tensors[*index])
    }

    /// The bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes() as u64).sum()
    }

    /// The file of a tensor.
    pub fn file_of(&self, tensor: &Tensor) -> &ModelFile {
        &self.files[tensor.file]
    }

    /// The files beside the weights that belong to the model: configuration, tokenizer, licence; by name.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn config_files(&self) -> Result<Vec<PathBuf>, IoError> {
        discover::config_files(&self.folder)
    }

    /// The strings of every tensor, shared by all batches.
    pub(in crate::io) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// A range of bytes of a file, without a copy.
    pub(in crate::io) fn buffer(&self, file: usize, range: Range<usize>) -> Result<Buffer, IoError> {
        let file = &self.files[file];
        let outside = || IoError::file(&file.path, format!("has no bytes {} to {}", range.start, range.end));
        file.contents.buffer(range.clone()).ok_or_else(outside)
    }

    /// Asks for a range of a file to be read ahead.
    pub(in crate::io) fn prefetch(&self, file: usize, range: Range<usize>) {
        self.files[file].contents.prefetch(range);
    }
}

/// Places that are sampled of a file, and the bytes taken at each.
const SAMPLES: usize = 64;
const SAMPLE_BYTES: usize = 4096;

/// The digest of a file's header, and of samples spread evenly over its data: reading all of it would take as long as
/// quantizing it.
fn source_digest(contents: &Contents, data_start: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    let length = contents.bytes().len();
    let mut take = |range: Range<usize>| {
        // The pages are released with the buffer.
        if let Some(bytes) = contents.buffer(range) {
            hasher.update(&bytes);
        }
    };
    take(0..data_start);
    let step = ((length - data_start) / SAMPLES).max(SAMPLE_BYTES);
    for start in (data_start..length).step_by(step) {
        take(start..length.min(start + SAMPLE_BYTES));
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
pub(in crate::io) mod tests;
