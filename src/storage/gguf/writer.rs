//! The header of a GGUF file to be, and the places of its tensors.

use super::{
    ALIGNMENT, MAGIC, MAX_RANK,
    header::Element,
    value::{Pair, Value, write_string},
};
use crate::{storage::dtype::Dtype, types::Block};

/// The key of what loaders take a model for.
pub const ARCHITECTURE: &str = "general.architecture";

/// The longest name of a tensor: llama.cpp reads up to 63 bytes, the loaders of diffusion models up to this.
const MOST_NAME: usize = 127;

/// A tensor of a file to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEntry {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// Its dimensions, the innermost last.
    pub shape: Vec<usize>,
}

/// The header of a file and the places of its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// The header, padded to where the data begins.
    pub head: Vec<u8>,
    /// The start of each tensor, counted from the start of the file.
    pub starts: Vec<usize>,
    /// The length of the file, the padding of the last tensor included.
    pub bytes: usize,
}

/// Lays out a file of version 3: pairs and tensors as given, each tensor at the next multiple of the alignment.
///
/// # Errors
/// Returns the name of a tensor whose type the format does not have, or that does not divide into its blocks.
pub fn lay_out(pairs: &[Pair], tensors: &[NewEntry]) -> Result<NewFile, String> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&3u32.to_le_bytes());
    head.extend_from_slice(&(tensors.len() as u64).to_le_bytes());
    head.extend_from_slice(&(pairs.len() as u64).to_le_bytes());
    for pair in pairs {
        write_string(&pair.key, &mut head);
        pair.value.write(&mut head);
    }
    let (mut starts, mut end) = (Vec::with_capacity(tensors.len()), 0usize);
    for tensor in tensors {
        let start = end.next_multiple_of(ALIGNMENT);
        let (unit, unit_bytes) = tensor.element.unit();
        let elements: usize = tensor.shape.iter().product();
        let divides = tensor.shape.last().copied().unwrap_or(1).is_multiple_of(unit);
        let (true, Some(number)) = (divides, tensor.element.number()) else { return Err(tensor.name.clone()) };
        write_string(&tensor.name, &mut head);
        head.extend_from_slice(&(tensor.shape.len() as u32).to_le_bytes());
        for dimension in tensor.shape.iter().rev() {
            head.extend_from_slice(&(*dimension as u64).to_le_bytes());
        }
        head.extend_from_slice(&number.to_le_bytes());
        head.extend_from_slice(&(start as u64).to_le_bytes());
        starts.push(start);
        end = start + elements / unit * unit_bytes;
    }
    head.resize(head.len().next_multiple_of(ALIGNMENT), 0);
    for start in &mut starts {
        *start += head.len();
    }
    let bytes = head.len() + end.next_multiple_of(ALIGNMENT);
    Ok(NewFile { head, starts, bytes })
}

/// Checks that the format has such a tensor, of a rank.
///
/// # Errors
/// Returns an error if the element, the rank or the name is none that GGUF has.
pub fn check(name: &str, element: Element, rank: usize) -> Result<(), String> {
    if element.number().is_none() {
        return Err(format!("is {}, which GGUF has no type for", element.name()));
    }
    if rank > MAX_RANK {
        return Err(format!("has {rank} dimensions; GGUF has at most {MAX_RANK}"));
    }
    if name.len() > MOST_NAME {
        return Err(format!("has a name of {} bytes; readers of GGUF take at most {MOST_NAME}", name.len()));
    }
    Ok(())
}

/// Returns the pairs of a file that holds these tensors and comes from no model.
pub fn pairs_of(architecture: Option<&str>, entries: &[NewEntry]) -> Vec<Pair> {
    let value = architecture.map(|name| Value::String(name.to_owned()));
    let architecture = value.map(|value| Pair { key: ARCHITECTURE.to_owned(), value });
    architecture.into_iter().chain(kinds(entries)).collect()
}

/// Returns the pairs about the types of the tensors.
pub fn kinds(entries: &[NewEntry]) -> Vec<Pair> {
    let pair = |key: &str, number| Pair { key: format!("general.{key}"), value: Value::U32(number) };
    let in_blocks = entries.iter().any(|entry| matches!(entry.element, Element::Block(_)));
    let version = in_blocks.then(|| pair("quantization_version", 2));
    version.into_iter().chain(file_type(entries).map(|number| pair("file_type", number))).collect()
}

/// Returns `general.file_type`: the number of the type that most elements have.
fn file_type(entries: &[NewEntry]) -> Option<u32> {
    // A few types, however many tensors.
    let mut sums: Vec<(Element, usize)> = Vec::new();
    for entry in entries {
        let elements = entry.shape.iter().product::<usize>();
        match sums.iter_mut().find(|(element, _)| *element == entry.element) {
            Some((_, sum)) => *sum += elements,
            None => sums.push((entry.element, elements)),
        }
    }
    let (most, _) = sums.into_iter().max_by_key(|(_, sum)| *sum)?;
    match most {
        Element::Plain(dtype) => match dtype {
            Dtype::F32 => Some(0),
            Dtype::F16 => Some(1),
            Dtype::BF16 => Some(32),
            _ => None,
        },
        Element::Block(block) => Some(match block {
            Block::Q4_0 => 2,
            Block::Q4_1 => 3,
            Block::Q8_0 => 7,
            Block::Q5_0 => 8,
            Block::Q5_1 => 9,
            Block::Q2_K => 10,
            // The small mixtures: those that are of one type but for a few tensors.
            Block::Q3_K => 11,
            Block::Q4_K => 14,
            Block::Q5_K => 16,
            Block::Q6_K => 18,
        }),
    }
}
