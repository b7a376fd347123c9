//! A model on disk: its files and tensors, known from the headers; no weight is read.

pub(crate) mod comfy_layers;
pub mod discover;
mod file_sets;
mod fp8_scale;
mod header;
mod index;
pub(crate) mod labels;
pub(crate) mod layer_part;
pub(crate) mod mlx_layers;
pub mod name;
mod open;
pub mod output_folder;
mod packed_modules;
pub mod part;
mod part_rows;
pub mod pipeline;
pub mod said;
pub mod scan;
pub mod side_files;
pub mod tensor;
mod tensors_table;
mod without;

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use arrow_buffer::Buffer;

use crate::{
    storage::{
        contents::Contents,
        dtype::{dtype_of, float_of},
        error::IoError,
        gguf::value::Pair,
        stamp::Stamp,
    },
    types::Float,
};
use labels::Labels;
use part_rows::PartRows;
use scan::buffer_pool::Pool;
use side_files::SideFiles;
use tensor::{Scale, Tensor};

/// A model: one safetensors or GGUF file, the shards of one folder, or an output folder. Modules that compressed-tensors, `ComfyUI` or
/// MLX packed are the tensors that they stand for.
#[derive(Debug)]
pub struct Model {
    folder: PathBuf,
    files: Vec<ModelFile>,
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    /// For each whether it means nothing where fp8 and packed weights are decoded.
    companions: Vec<bool>,
    labels: Labels,
    /// The rows of an output folder. `None` means files of a checkpoint.
    parts: Option<PartRows>,
    /// Weights in its folder that are no part of it.
    passed_over: Vec<String>,
    /// The name of the file that was given. `None` means that a folder was.
    given: Option<String>,
    /// Tensors of its files that are no part of it, and why.
    dropped: Vec<(Tensor, String)>,
    /// True if `dtype` and `data` are those of the values where they are stored otherwise.
    decoded: bool,
    /// Not those of tensors in blocks, which the output has as well.
    keeps_blocks: bool,
}

/// One file of a model.
#[derive(Debug)]
pub struct ModelFile {
    /// The path of the file.
    pub path: PathBuf,
    /// Its name in the model's folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: usize,
    /// The digest of its header and of samples of its data, in hex: it tells another checkpoint of the same
    /// shapes, not every single byte that was changed.
    pub source_digest: String,
    /// The pairs of its `__metadata__`, or those of a GGUF file as text.
    pub metadata: Vec<(String, String)>,
    /// The pairs of a GGUF file; none of another.
    pub pairs: Vec<Pair>,
    /// The file as it was when it was opened. `None` means a part of an output folder, which the manifest describes.
    pub stamp: Option<Stamp>,
    /// None: a part of an output folder.
    contents: Option<Contents>,
}

impl Model {
    fn new(
        folder: PathBuf,
        files: Vec<ModelFile>,
        mut tensors: Vec<Tensor>,
        parts: Option<PartRows>,
    ) -> Result<Self, IoError> {
        let mut by_name = HashMap::new();
        for (number, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.name.clone(), number).is_some() {
                return Err(IoError::tensor(&folder, &tensor.name, "is there twice"));
            }
        }
        fp8_scale::assign(&mut tensors, &by_name, said::blocks(&said::config(&folder)));
        let companions = fp8_scale::companions(&tensors, &by_name);
        let labels = Labels::new(&tensors, Tensor::dtype_name);
        Ok(Self {
            folder,
            files,
            tensors,
            by_name,
            companions,
            labels,
            parts,
            passed_over: Vec::new(),
            given: None,
            dropped: Vec::new(),
            decoded: false,
            keeps_blocks: false,
        })
    }

    /// Tells whether the weights of a tensor can be read: it is no integer, nor, in a decoded model, one whose scale cannot be
    /// told.
    pub(crate) fn has_weights(&self, tensor: &Tensor) -> bool {
        tensor.dtype.is_float() && !(self.decoded && matches!(tensor.scale, Scale::Unknown(_)))
    }

    /// The same model, but `dtype` and `data` of its weights table are those of the values, where they are encoded: what
    /// is copied unchanged can then be read without knowing the source. With `keeps_blocks` tensors in the blocks of GGUF stay
    /// as they are, for an output that has these blocks.
    #[must_use]
    pub fn decoded(mut self, keeps_blocks: bool) -> Self {
        self.decoded = true;
        self.keeps_blocks = keeps_blocks;
        self.labels = Labels::new(&self.tensors, |tensor| self.dtype_name(tensor));
        self
    }

    /// Returns true if it is [`Self::decoded`].
    pub fn is_decoded(&self) -> bool {
        self.decoded
    }

    /// The float that `data` of a tensor is where that is not what is stored.
    pub(crate) fn decoded_float(&self, tensor: &Tensor) -> Option<Float> {
        let kept = self.keeps_blocks && tensor.is_in_blocks();
        if self.decoded && !tensor.is_plain() && !kept { float_of(tensor.dtype) } else { None }
    }

    /// The bytes of a tensor as the weights table has it: what it takes where it is carried.
    pub fn carried_bytes(&self, tensor: &Tensor) -> u64 {
        let decoded = self.decoded_float(tensor).map(|float| tensor.elements() * float.bytes());
        decoded.unwrap_or_else(|| tensor.bytes()) as u64
    }

    /// The type of a tensor as the weights table has it.
    pub fn dtype_name(&self, tensor: &Tensor) -> &'static str {
        self.decoded_float(tensor).map_or_else(|| tensor.dtype_name(), |float| dtype_of(float).name())
    }

    /// Returns the place of the rows of an output folder.
    pub(crate) fn part_rows(&self) -> Option<&PartRows> {
        self.parts.as_ref()
    }

    /// The folder that holds the files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files, by name.
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// The files of weights in its folder that are no part of it, and were not read.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The tensors in the order of the files, and inside a file in the order of their bytes.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name).map(|index| &self.tensors[*index])
    }

    /// The number of the tensor of a name.
    pub fn number_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Tells whether a tensor of a number means nothing where fp8 and packed weights are decoded: their scales, those of their
    /// inputs, and marks.
    pub fn is_companion(&self, number: usize) -> bool {
        self.companions.get(number).is_some_and(|companion| *companion)
    }

    /// The bytes of all tensors.
    pub fn total_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes() as u64).sum()
    }

    /// The file of a tensor.
    pub fn file_of(&self, tensor: &Tensor) -> &ModelFile {
        &self.files[tensor.file()]
    }

    /// Lists the files beside the weights that go along with the model; see [`SideFiles::of`].
    ///
    /// # Errors
    /// Returns an error that names the first file or folder that cannot be read.
    pub fn side_files(&self) -> Result<SideFiles, IoError> {
        let mut side = SideFiles::of(&self.folder, self.given.as_deref())?;
        let known = |name: &String| self.files.iter().any(|file| file.name == *name) || self.passed_over.contains(name);
        side.left.retain(|name| !known(name));
        Ok(side)
    }

    /// The strings of every tensor, shared by all batches.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Reads bytes of a file from `start` on.
    pub(crate) fn read(&self, file: usize, start: usize, out: &mut [u8]) -> Result<(), IoError> {
        self.contents(file)?.read(start, out)
    }

    /// A range of bytes of a file, in a buffer of the pool; without a copy where the file is in memory.
    fn buffer(&self, file: usize, range: Range<usize>, pool: &Pool<u8>) -> Result<Buffer, IoError> {
        let contents = self.contents(file)?;
        match contents.loaded(&range) {
            Some(buffer) => Ok(buffer),
            None => pool.buffer(range.len(), |out| contents.read(range.start, out)),
        }
    }

    /// Asks for a range of a file to be read ahead.
    pub(crate) fn prefetch(&self, file: usize, range: &Range<usize>) {
        if let Some(contents) = &self.files[file].contents {
            contents.prefetch(range);
        }
    }

    fn contents(&self, file: usize) -> Result<&Contents, IoError> {
        let file = &self.files[file];
        file.contents.as_ref().ok_or_else(|| IoError::file(&file.path, "is a part, and has no bytes of a tensor"))
    }
}

#[cfg(test)]
mod tests;
