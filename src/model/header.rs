//! The header of a file, in whichever container.

use std::path::Path;

use super::tensor::Tensor;
use crate::{
    storage::{
        contents::Contents,
        dtype::Dtype,
        error::IoError,
        gguf::{self, header::Element, value::Pair},
        row_layout::{Order, Piece},
        safetensors,
    },
    types::Encoding,
};

/// The header of a file of a model.
pub struct Header {
    /// Pairs of text.
    pub metadata: Vec<(String, String)>,
    /// The pairs of a GGUF file.
    pub pairs: Vec<Pair>,
    /// The tensors in the order of their bytes.
    pub tensors: Vec<Tensor>,
    /// The byte at which the data begins.
    pub data_start: usize,
}

impl Header {
    /// Reads the header of file number `file`; what it begins with tells which container it is, and where that is neither,
    /// its name which it was to be.
    ///
    /// # Errors
    /// It is neither safetensors nor GGUF.
    pub fn read(contents: &Contents, path: &Path, file: usize) -> Result<Self, IoError> {
        let start = contents.head(safetensors::header::LENGTH_BYTES)?;
        let length = contents.length();
        if start.starts_with(&gguf::MAGIC) || path.extension().is_some_and(|extension| extension == "gguf") {
            let header = gguf::header::Header::read(|most| contents.head(most), length, path)?;
            let metadata = header.pairs.iter().map(|pair| (pair.key.clone(), pair.value.to_text())).collect();
            let tensors = header.entries.into_iter().map(|entry| of_gguf(entry, file)).collect();
            return Ok(Self { metadata, pairs: header.pairs, tensors, data_start: header.data_start });
        }
        // Enough to tell what a file is that is neither.
        let head = contents.head(safetensors::header::end(&start).max(64))?;
        let header = safetensors::header::Header::of(&head, length, path)?;
        let tensors = header.entries.into_iter().map(|entry| Tensor::new(entry, file)).collect();
        Ok(Self { metadata: header.metadata, pairs: Vec::new(), tensors, data_start: header.data_start })
    }
}

/// A tensor of a GGUF file. Blocks stand for f32.
fn of_gguf(entry: gguf::header::Entry, file: usize) -> Tensor {
    let gguf::header::Entry { name, element, shape, range } = entry;
    let block = match element {
        Element::Plain(dtype) => return Tensor::new(safetensors::header::Entry { name, dtype, shape, range }, file),
        Element::Block(block) => block,
    };
    let start = range.start;
    let mut tensor = Tensor::encoded(name, Dtype::F32, shape, Encoding::Block(block), Vec::new());
    let row_bytes = range.len() / tensor.rows;
    let piece = Piece { file, start, row_bytes, order: Order::Rows };
    tensor.storage = crate::model::tensor::Storage::Encoded { encoding: Encoding::Block(block), pieces: vec![piece] };
    tensor
}
