//! The header of a GGUF file to be, and the places of its tensors.

use super::{ALIGNMENT, Element, MAGIC, Pair, value::write_string};

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

/// What a file begins with and where its tensors lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// The header, padded to where the data begins.
    pub head: Vec<u8>,
    /// Where each tensor begins, counted from the start of the file.
    pub starts: Vec<usize>,
    /// The length of the file, the padding of the last tensor included.
    pub bytes: usize,
}

/// Lays out a file of version 3: pairs and tensors as given, each tensor at the next multiple of the alignment.
///
/// # Errors
/// The name of a tensor whose type the format does not have, or that does not divide into its blocks.
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
