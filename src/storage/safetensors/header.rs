//! The header of a safetensors file, checked in full before anything else is read.

use std::{ops::Range, path::Path};

use super::json::{self, RawEntry};
use crate::storage::{dtype::Dtype, error::IoError};

/// The longest header that the format allows, in bytes.
pub const MAX_HEADER: usize = 100_000_000;

/// The most dimensions of a tensor: those of `PyTorch` and `NumPy`.
pub const MAX_RANK: usize = 64;

/// The bytes before the header: its length, little-endian.
pub const LENGTH_BYTES: usize = 8;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<usize>,
    /// The range of its bytes, counted from the start of the file.
    pub range: Range<usize>,
}

/// A checked header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The pairs of `__metadata__`, in the order of the file.
    pub metadata: Vec<(String, String)>,
    /// The tensors in the order of their bytes, which cover the rest of the file without a gap.
    pub entries: Vec<Entry>,
    /// The place where the data begins, counted from the start of the file.
    pub data_start: usize,
}

impl Header {
    /// Reads the header of a file given as its bytes.
    ///
    /// Stricter than the reference implementation in what no program writes: a name may be there only once, an entry
    /// may have no further fields, a tensor has at most [`MAX_RANK`] dimensions, each at most `2^63 - 1`.
    ///
    /// # Errors
    /// Everything that is not the format: the message names the file (`path` is used for that alone) and the tensor.
    pub fn parse(bytes: &[u8], path: &Path) -> Result<Self, IoError> {
        Self::of(bytes, bytes.len(), path)
    }

    /// Reads the same of a file of `length` bytes, of which the first up to the [end] of its header are given.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn of(bytes: &[u8], length: usize, path: &Path) -> Result<Self, IoError> {
        let text =
            header_text(bytes, length).map_err(|problem| IoError::file(path, other_kind(bytes).unwrap_or(problem)))?;
        let raw = json::parse(text).map_err(|error| {
            IoError::file(path, format!("the safetensors header is not a JSON object of tensors: {error}"))
        })?;
        let data_start = LENGTH_BYTES + text.len();
        let mut entries = Vec::with_capacity(raw.tensors.len());
        for (name, entry) in raw.tensors {
            match checked(&entry, data_start, length) {
                Ok((dtype, shape, range)) => entries.push(Entry { name, dtype, shape, range }),
                Err(problem) => return Err(IoError::tensor(path, &name, problem)),
            }
        }
        entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
        let mut covered = data_start;
        for entry in &entries {
            let begin = entry.range.start;
            if begin != covered {
                let problem = if begin < covered { "overlap" } else { "leave a gap after" };
                let (begin, covered) = (begin - data_start, covered - data_start);
                let problem = format!("its bytes from {begin} {problem} those before it, which end at {covered}");
                return Err(IoError::tensor(path, &entry.name, problem));
            }
            covered = entry.range.end;
        }
        if covered != length {
            let problem = format!("{} bytes after the last tensor belong to none", length - covered);
            return Err(IoError::file(path, problem));
        }
        Ok(Self { metadata: raw.metadata, entries, data_start })
    }
}

/// The first bytes of files that people have in the place of safetensors, what they are, and what to do.
const OTHERS: [(&[u8], &str); 9] = [
    (b"version https://git-lfs", "a pointer of Git LFS in the place of the file; `git lfs pull` fetches it"),
    (b"<!DOCTYPE", "a page of HTML in the place of the file, often a login or an error; fetch it again"),
    (b"<!doctype", "a page of HTML in the place of the file, often a login or an error; fetch it again"),
    (b"<html", "a page of HTML in the place of the file, often a login or an error; fetch it again"),
    (b"PK\x03\x04", "a zip archive, as PyTorch writes it (.bin, .pt, .ckpt); save its tensors as safetensors first"),
    (b"\x80\x02", "a pickle, as PyTorch wrote it (.bin, .pt, .ckpt); save its tensors as safetensors first"),
    (b"\x80\x04", "a pickle, as Python writes it; save its tensors as safetensors first"),
    (b"\x93NUMPY", "an array of NumPy; save it as safetensors first"),
    (b"\x89HDF", "an HDF5 file, as Keras writes it; save its tensors as safetensors first"),
];

/// Returns what a file is that is no safetensors file, where its first bytes tell.
fn other_kind(bytes: &[u8]) -> Option<String> {
    let kind = OTHERS.iter().find(|(begin, _)| bytes.starts_with(begin)).map(|(_, kind)| kind);
    kind.map(|kind| format!("is not safetensors: it is {kind}"))
}

/// Returns the end of the header of a file, by its first [`LENGTH_BYTES`]; no more than is allowed.
pub fn end(bytes: &[u8]) -> usize {
    let declared = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    LENGTH_BYTES + usize::try_from(declared).map_or(0, |declared| if declared > MAX_HEADER { 0 } else { declared })
}

/// Returns the header's text, from the length in front of it, of a file of `length` bytes.
fn header_text(bytes: &[u8], length: usize) -> Result<&str, String> {
    let Some((declared, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(match bytes.len() {
            0 => "is empty; a safetensors file begins with the 8-byte length of its header".to_owned(),
            n => format!("has {n} bytes; a safetensors file begins with the 8-byte length of its header"),
        });
    };
    let declared = u64::from_le_bytes(*declared);
    if declared > MAX_HEADER as u64 {
        return Err(format!(
            "is not safetensors: its first 8 bytes give a header of {declared} bytes, and at most {MAX_HEADER} are allowed"
        ));
    }
    let text = rest.get(..declared as usize).ok_or_else(|| {
        format!(
            "is cut off or not safetensors: its header should have {declared} bytes, and {} follow",
            length - LENGTH_BYTES
        )
    })?;
    if text.first() != Some(&b'{') {
        return Err("is not safetensors: its header does not begin with '{'".to_owned());
    }
    std::str::from_utf8(text)
        .map_err(|error| format!("the safetensors header is not UTF-8 from its byte {}", error.valid_up_to()))
}

/// Returns an entry with its places counted from the start of the file.
fn checked(entry: &RawEntry, data_start: usize, file: usize) -> Result<(Dtype, Vec<usize>, Range<usize>), String> {
    let dtype: Dtype = entry.dtype.parse()?;
    if entry.shape.len() > MAX_RANK {
        return Err(format!("has {} dimensions; at most {MAX_RANK} are allowed", entry.shape.len()));
    }
    let mut shape = Vec::with_capacity(entry.shape.len());
    let mut elements = 1usize;
    for dimension in &entry.shape {
        let dimension = i64::try_from(*dimension).ok().and_then(|dimension| usize::try_from(dimension).ok());
        let product = dimension.and_then(|dimension| elements.checked_mul(dimension));
        let (Some(dimension), Some(product)) = (dimension, product) else {
            return Err(format!("the shape {:?} has more elements than can be addressed", entry.shape));
        };
        shape.push(dimension);
        elements = product;
    }
    let bits = elements
        .checked_mul(dtype.bits())
        .ok_or_else(|| format!("the shape {shape:?} has more bytes than can be addressed"))?;
    if bits % 8 != 0 {
        return Err(format!("{elements} elements of {dtype} end inside a byte"));
    }
    let (begin, end) = entry.data_offsets;
    let data = file - data_start;
    let place = |offset: u64| usize::try_from(offset).ok().filter(|offset| *offset <= data);
    let (Some(begin), Some(end)) = (place(begin), place(end)) else {
        return Err(format!("its bytes {begin} to {end} lie outside the file, which has {data} bytes of data"));
    };
    if begin > end {
        return Err(format!("its bytes end at {end}, before they begin at {begin}"));
    }
    if end - begin != bits / 8 {
        return Err(format!("{dtype} of shape {shape:?} takes {} bytes, not {}", bits / 8, end - begin));
    }
    Ok((dtype, shape, data_start + begin..data_start + end))
}

#[cfg(test)]
mod tests;
