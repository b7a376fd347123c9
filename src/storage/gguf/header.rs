//! The header of a GGUF file, checked in full before anything else is read.

use std::{collections::HashSet, ops::Range, path::Path};

use super::{
    ALIGNMENT, MAGIC, MAX_RANK,
    cursor::Cursor,
    value::{Pair, Value},
};
use crate::{
    storage::{dtype::Dtype, error::IoError},
    types::Block,
};

/// Bytes of a file that are read at first to find its header.
const FIRST_READ: usize = 1 << 20;

/// The longest header that is read: those of large vocabularies have some 20 MB.
const MAX_HEADER: usize = 256 << 20;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Each by itself.
    Plain(Dtype),
    /// Blocks of consecutive weights.
    Block(Block),
}

/// The types that are read and written, with the numbers that the format has for them.
const TYPES: [(u32, Element); 18] = [
    (0, Element::Plain(Dtype::F32)),
    (1, Element::Plain(Dtype::F16)),
    (2, Element::Block(Block::Q4_0)),
    (3, Element::Block(Block::Q4_1)),
    (6, Element::Block(Block::Q5_0)),
    (7, Element::Block(Block::Q5_1)),
    (8, Element::Block(Block::Q8_0)),
    (10, Element::Block(Block::Q2_K)),
    (11, Element::Block(Block::Q3_K)),
    (12, Element::Block(Block::Q4_K)),
    (13, Element::Block(Block::Q5_K)),
    (14, Element::Block(Block::Q6_K)),
    (24, Element::Plain(Dtype::I8)),
    (25, Element::Plain(Dtype::I16)),
    (26, Element::Plain(Dtype::I32)),
    (27, Element::Plain(Dtype::I64)),
    (28, Element::Plain(Dtype::F64)),
    (30, Element::Plain(Dtype::BF16)),
];

impl Element {
    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Block(block) => block.name(),
        }
    }

    /// Returns the elements and the bytes of the smallest unit.
    #[must_use]
    pub const fn unit(self) -> (usize, usize) {
        match self {
            Self::Plain(dtype) => (1, dtype.bits() / 8),
            Self::Block(block) => (block.weights(), block.bytes()),
        }
    }

    /// Returns the number that the format has for it. `None` means that the format has no such type.
    #[must_use]
    pub fn number(self) -> Option<u32> {
        TYPES.into_iter().find(|(_, element)| *element == self).map(|(number, _)| number)
    }

    /// Returns the type of a name.
    ///
    /// # Errors
    /// Returns an error if the format has no such type, or none that is read; the message lists those that are.
    pub fn of_name(name: &str) -> Result<Self, String> {
        let found = TYPES.into_iter().map(|(_, element)| element).find(|element| element.name() == name);
        found.ok_or_else(|| format!("unknown GGUF type '{name}'; known are {}", Self::names()))
    }

    fn of_number(number: u32) -> Result<Self, String> {
        let found = TYPES.into_iter().find(|(known, _)| *known == number).map(|(_, element)| element);
        found.ok_or_else(|| format!("is of type {number}, which is not read; read are {}", Self::names()))
    }

    fn names() -> String {
        TYPES.map(|(_, element)| element.name()).join(", ")
    }
}

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its dimensions, the innermost last (the file has it first); none for a scalar.
    pub shape: Vec<usize>,
    /// The range of its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The key-value pairs, in the order of the file.
    pub pairs: Vec<Pair>,
    /// The tensors, in the order of the file, which is that of their bytes.
    pub entries: Vec<Entry>,
    /// The place where the data begins, counted from the start of the file; its end if there is none.
    pub data_start: usize,
}

impl Header {
    /// Reads the header of a file given as its bytes.
    ///
    /// As strict as llama.cpp: the tensors follow each other as they are named, each at the next multiple of the
    /// alignment, and nothing follows the last but its padding.
    ///
    /// # Errors
    /// Everything that is not the format: the message names the file (`path` is used for that alone) and the tensor.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, IoError> {
        Self::of(&mut Cursor::new(bytes, bytes.len()), path)
    }

    /// Reads the same of a file of `length` bytes, of which `head` gives the first, up to a number of them.
    ///
    /// # Errors
    /// As [`Self::parse`], or if the header has more than 256 MiB; and those of `head`.
    pub fn read(head: impl Fn(usize) -> Result<Vec<u8>, IoError>, length: usize, path: &Path) -> Result<Self, IoError> {
        let mut most = FIRST_READ;
        loop {
            let bytes = head(most)?;
            let mut cursor = Cursor::new(&bytes, length);
            match (Self::of(&mut cursor, path), cursor.lacking()) {
                (Err(_), Some(end)) if end > MAX_HEADER => {
                    return Err(IoError::file(path, format!("has a header of more than {MAX_HEADER} bytes")));
                }
                (Err(_), Some(end)) => most = end.max(4 * most).min(MAX_HEADER),
                (header, _) => return header,
            }
        }
    }

    fn of(cursor: &mut Cursor, path: &Path) -> Result<Self, IoError> {
        let file_error = |problem: String| IoError::file(path, problem);
        let file_length = cursor.length();
        let (tensors, count) = begin(cursor).map_err(file_error)?;
        let pairs = pairs(cursor, count).map_err(file_error)?;
        let alignment = alignment(&pairs).map_err(file_error)?;
        let (mut names, mut infos) = (HashSet::new(), Vec::new());
        for number in 0..tensors {
            let name = cursor.string().map_err(|problem| file_error(format!("tensor {number}: {problem}")))?;
            let info = info(cursor).map_err(|problem| IoError::tensor(path, name, problem))?;
            if !names.insert(name) {
                return Err(IoError::tensor(path, name, "is there twice"));
            }
            infos.push((name, info));
        }
        let data_start = cursor.at().next_multiple_of(alignment);
        let mut entries = Vec::with_capacity(infos.len());
        let mut end = data_start;
        for (name, info) in infos {
            let tensor_error = |problem: String| IoError::tensor(path, name, problem);
            let expected = end.checked_next_multiple_of(alignment).filter(|start| *start <= file_length.max(end));
            let start = usize::try_from(info.offset).ok().and_then(|offset| data_start.checked_add(offset));
            if start.is_none() || start != expected {
                let expected = expected.map_or("outside the file".to_owned(), |start| (start - data_start).to_string());
                return Err(tensor_error(format!("its data begins at {} where {expected} is expected", info.offset)));
            }
            let start = start.unwrap_or(end);
            let range = start.checked_add(info.bytes).filter(|end| *end <= file_length).map(|end| start..end);
            let range = range.ok_or_else(|| {
                let left = file_length.saturating_sub(start);
                tensor_error(format!("is cut off: its data has {} bytes, and {left} are left in the file", info.bytes))
            })?;
            end = range.end;
            entries.push(Entry { name: name.to_owned(), element: info.element, shape: info.shape, range });
        }
        if file_length > end.next_multiple_of(alignment) {
            return Err(file_error(format!("{} bytes after the last tensor belong to none", file_length - end)));
        }
        // A header that no data follows need not be padded.
        Ok(Self { pairs, entries, data_start: data_start.min(file_length) })
    }

    /// Returns the value of a key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value)
    }
}

/// Returns the number of tensors and that of pairs.
fn begin(cursor: &mut Cursor) -> Result<(u64, u64), String> {
    if cursor.array::<4>()? != MAGIC {
        return Err("is not GGUF: it does not begin with the four letters".to_owned());
    }
    match cursor.u32()? {
        2 | 3 => {}
        version if matches!(version.swap_bytes(), 2 | 3) => {
            return Err("is GGUF for big-endian machines, which is not read".to_owned());
        }
        version => return Err(format!("is GGUF version {version}; versions 2 and 3 are read")),
    }
    let tensors = cursor.u64()?;
    let pairs = cursor.u64()?;
    // The least that one takes: name length, rank, type and offset; key length, type and a byte.
    if tensors.checked_mul(24).is_none_or(|least| least > cursor.length() as u64)
        || pairs.checked_mul(13).is_none_or(|least| least > cursor.length() as u64)
    {
        let length = cursor.length();
        return Err(format!("says that it has {tensors} tensors and {pairs} pairs, too many for its {length} bytes"));
    }
    Ok((tensors, pairs))
}

fn pairs(cursor: &mut Cursor, count: u64) -> Result<Vec<Pair>, String> {
    let (mut pairs, mut keys) = (Vec::new(), HashSet::new());
    for number in 0..count {
        let key = cursor.string().map_err(|problem| format!("key {number}: {problem}"))?;
        if key.len() > usize::from(u16::MAX) {
            return Err(format!("key {number} has {} bytes; at most {} are allowed", key.len(), u16::MAX));
        }
        let value = Value::read(cursor).map_err(|problem| format!("key '{key}': {problem}"))?;
        if !keys.insert(key) {
            return Err(format!("key '{key}' is there twice"));
        }
        pairs.push(Pair { key: key.to_owned(), value });
    }
    Ok(pairs)
}

fn alignment(pairs: &[Pair]) -> Result<usize, String> {
    let Some(pair) = pairs.iter().find(|pair| pair.key == "general.alignment") else { return Ok(ALIGNMENT) };
    let alignment = pair.value.as_u64().filter(|value| value.is_power_of_two() && *value <= 1 << 20);
    alignment.map(|value| value as usize).ok_or_else(|| {
        format!("general.alignment is {}; it must be a power of two up to 1048576", pair.value.to_text())
    })
}

/// The entry of one tensor, checked except for its place.
struct Info {
    element: Element,
    shape: Vec<usize>,
    bytes: usize,
    offset: u64,
}

fn info(cursor: &mut Cursor) -> Result<Info, String> {
    let rank = cursor.u32()? as usize;
    if rank > MAX_RANK {
        return Err(format!("has {rank} dimensions; at most {MAX_RANK} are allowed"));
    }
    let mut dimensions = Vec::with_capacity(rank);
    for _ in 0..rank {
        dimensions.push(cursor.u64()?);
    }
    let (element, offset) = (Element::of_number(cursor.u32()?)?, cursor.u64()?);
    dimensions.reverse();
    let (unit, unit_bytes) = element.unit();
    let mut shape = Vec::with_capacity(rank);
    // An empty tensor may have dimensions whose product overflows; its rows are none.
    let mut elements = 1usize;
    for dimension in &dimensions {
        let dimension = i64::try_from(*dimension).ok().and_then(|dimension| usize::try_from(dimension).ok());
        let product = dimension.and_then(|dimension| elements.checked_mul(dimension));
        let (Some(dimension), Some(product)) = (dimension, product) else {
            return Err(format!("the shape {dimensions:?} has more elements than can be addressed"));
        };
        shape.push(dimension);
        elements = product;
    }
    if !shape.last().copied().unwrap_or(1).is_multiple_of(unit) {
        return Err(format!(
            "the shape {shape:?} does not divide into blocks of {unit}, as {} has them",
            element.name()
        ));
    }
    let bytes = (elements / unit).checked_mul(unit_bytes);
    let bytes = bytes.ok_or_else(|| format!("the shape {shape:?} has more bytes than can be addressed"))?;
    Ok(Info { element, shape, bytes, offset })
}

#[cfg(test)]
mod tests;
