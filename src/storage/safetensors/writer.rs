//! The header of a safetensors file to be, and the places of its tensors.

use serde_json::json;

use super::header::{LENGTH_BYTES, MAX_HEADER};
use crate::storage::dtype::Dtype;

/// The key of a header under which the format keeps what is no tensor.
const METADATA: &str = "__metadata__";

/// A tensor as a header names it.
pub struct HeadEntry<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its dtype.
    pub dtype: Dtype,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its length in bytes.
    pub bytes: usize,
}

/// Returns the length and the header of a file, and where each tensor begins in the file. As the reference
/// implementation writes it: wide types first, then by name, so that every tensor is aligned; filled up with spaces to
/// 8 bytes. `metadata` are the pairs that are kept beside the format.
///
/// # Errors
/// Returns an error if a tensor has the name that the format reserves, or the header would be longer than the format
/// allows.
pub fn head(entries: &[HeadEntry], metadata: &[(String, String)]) -> Result<(Vec<u8>, Vec<usize>), String> {
    if entries.iter().any(|entry| entry.name == METADATA) {
        return Err(format!("tensor '{METADATA}': safetensors reserve this name; rename the tensor"));
    }
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(entries[*at].dtype.bits()), entries[*at].name));
    let mut starts = vec![0; entries.len()];
    let mut header = serde_json::Map::new();
    let format = ("format".to_owned(), json!("pt"));
    let pairs = metadata.iter().map(|(key, value)| (key.clone(), json!(value)));
    let metadata: serde_json::Map<_, _> = pairs.chain([format]).collect();
    header.insert(METADATA.to_owned(), metadata.into());
    let mut end = 0;
    for at in order {
        let HeadEntry { name, dtype, shape, bytes } = &entries[at];
        starts[at] = end;
        end += bytes;
        let entry = json!({ "dtype": dtype.name(), "shape": shape, "data_offsets": [starts[at], end] });
        header.insert((*name).to_owned(), entry);
    }
    let mut text = serde_json::Value::Object(header).to_string();
    while !text.len().is_multiple_of(8) {
        text.push(' ');
    }
    if text.len() > MAX_HEADER {
        return Err(format!("a header of {} bytes is too long; at most {MAX_HEADER} are allowed", text.len()));
    }
    let mut head = (text.len() as u64).to_le_bytes().to_vec();
    head.extend_from_slice(text.as_bytes());
    for start in &mut starts {
        *start += LENGTH_BYTES + text.len();
    }
    Ok((head, starts))
}
