//! Modules that compressed-tensors has packed, as the tensors that they stand for.

use std::{collections::HashMap, path::Path};

use super::tensor::{Storage, Tensor};
use crate::{
    storage::{
        dtype::Dtype,
        error::IoError,
        row_layout::{Order, Piece},
    },
    types::{Bits, Encoding, Float, Method, Packed},
};

const PACKED: &str = "_packed";

/// Puts a tensor `m.weight` in the place of every `m.weight_packed` with `_scale`, `_shape` and `_zero_point`.
///
/// `read` gives the bytes of a tensor, `path` its file.
///
/// # Errors
/// A module is packed in a way that is not read: its tensors do not fit together, the width of its codes cannot be told,
/// or its groups are not in order.
pub fn unpack<'p>(
    tensors: Vec<Tensor>,
    read: impl Fn(&Tensor) -> Result<Vec<u8>, IoError>,
    path: impl Fn(&Tensor) -> &'p Path,
    widths: &[Bits],
) -> Result<Vec<Tensor>, IoError> {
    let by_name: HashMap<&str, &Tensor> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut made: HashMap<&str, Tensor> = HashMap::new();
    let mut used: Vec<&str> = Vec::new();
    for codes in &tensors {
        let Some(name) = codes.name.strip_suffix(PACKED) else { continue };
        let companion = |suffix: &str| by_name.get(format!("{name}_{suffix}").as_str()).copied();
        let (Some(scale), Some(shape)) = (companion("scale"), companion("shape")) else { continue };
        let parts = Parts { codes, scale, zero_points: companion("zero_point") };
        let refuse = |problem: String| IoError::tensor(path(codes), name, problem);
        if let Some(order) = companion("g_idx") {
            let groups = scale.shape.get(1).copied().unwrap_or(1);
            if !in_order(&read(order)?, order, groups) {
                let problem = "has a weight_g_idx: groups in the order of activations are not read";
                return Err(refuse(problem.to_owned()));
            }
            used.push(order.name.as_str());
        }
        let (rows, length) = matrix(&read(shape)?, shape).map_err(refuse)?;
        let tensor = parts.tensor(name, rows, length, widths).map_err(refuse)?;
        made.insert(codes.name.as_str(), tensor);
        used.extend([scale.name.as_str(), shape.name.as_str()]);
        used.extend(parts.zero_points.map(|tensor| tensor.name.as_str()));
    }
    if made.is_empty() {
        return Ok(tensors);
    }
    let used: std::collections::HashSet<&str> = used.into_iter().collect();
    let kept = tensors.iter().filter(|tensor| !used.contains(tensor.name.as_str()));
    Ok(kept.map(|tensor| made.remove(tensor.name.as_str()).unwrap_or_else(|| tensor.clone())).collect())
}

/// Tells whether a `weight_g_idx` says nothing: all of it is -1, or each column is of the group that it lies in.
fn in_order(bytes: &[u8], order: &Tensor, groups: usize) -> bool {
    let numbers = bytes.as_chunks::<4>().0.iter().map(|bytes| i32::from_le_bytes(*bytes));
    let size = order.elements().div_ceil(groups.max(1)).max(1);
    let lies_in = |(column, group): (usize, i32)| usize::try_from(group) == Ok(column / size);
    order.dtype == Dtype::I32 && (numbers.clone().all(|group| group == -1) || numbers.enumerate().all(lies_in))
}

/// Returns the widths of the codes that a configuration names. Empty means any.
pub fn widths(config: &serde_json::Value) -> Vec<Bits> {
    let groups = config["quantization_config"]["config_groups"].as_object();
    let bits = groups.into_iter().flatten().filter_map(|(_, group)| group["weights"]["num_bits"].as_i64());
    bits.filter_map(|bits| Bits::try_from(bits).ok()).collect()
}

/// The rows and columns that `weight_shape` holds.
fn matrix(bytes: &[u8], shape: &Tensor) -> Result<(usize, usize), String> {
    let size = |at: usize| {
        let number = match shape.dtype {
            Dtype::I64 => bytes.as_chunks::<8>().0.get(at).map(|bytes| i64::from_le_bytes(*bytes)),
            Dtype::I32 => bytes.as_chunks::<4>().0.get(at).map(|bytes| i64::from(i32::from_le_bytes(*bytes))),
            _ => None,
        };
        number.and_then(|number| usize::try_from(number).ok()).filter(|size| *size > 0)
    };
    match (shape.shape.as_slice(), size(0), size(1)) {
        ([2], Some(rows), Some(length)) if rows.checked_mul(length).is_some_and(|n| n < usize::MAX / 64) => {
            Ok((rows, length))
        }
        _ => Err(format!("'{}' must hold two sizes, rows and columns", shape.name)),
    }
}

/// The tensors of one module.
struct Parts<'t> {
    codes: &'t Tensor,
    scale: &'t Tensor,
    zero_points: Option<&'t Tensor>,
}

impl Parts<'_> {
    fn tensor(&self, name: &str, rows: usize, length: usize, widths: &[Bits]) -> Result<Tensor, String> {
        let (codes, scale) = (self.codes, self.scale);
        let words = match codes.shape.as_slice() {
            [n, words] if *n == rows && codes.dtype == Dtype::I32 => *words,
            _ => {
                return Err(format!(
                    "'{}' is {} of shape {:?}; {rows} rows of I32 are read",
                    codes.name, codes.dtype, codes.shape
                ));
            }
        };
        let bits = width(length, words, widths)?;
        let float = match scale.dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::BF16,
            Dtype::F32 => Float::F32,
            other => return Err(format!("'{}' is {other}; F16, BF16 and F32 are read", scale.name)),
        };
        let groups = match scale.shape.as_slice() {
            [n] if *n == rows => 1,
            [n, groups] if *n == rows && *groups > 0 && length.is_multiple_of(*groups) => *groups,
            other => {
                let name = &scale.name;
                return Err(format!(
                    "'{name}' of shape {other:?} has not the same number of groups for each of {rows} rows of {length}"
                ));
            }
        };
        let group_size = if groups == 1 { None } else { u32::try_from(length / groups).ok() };
        let packed =
            Packed { bits, group_size, symmetric: self.zero_points.is_none(), scale: float, method: Method::Minmax };
        let piece = |tensor: &Tensor, row_bytes, order| Piece {
            file: tensor.file(),
            start: tensor.rows_range(&(0..0)).start,
            row_bytes,
            order,
        };
        let mut pieces = vec![piece(codes, words * 4, Order::Rows), piece(scale, groups * float.bytes(), Order::Rows)];
        if let Some(zero_points) = self.zero_points {
            let order = Order::Down { bits };
            let place = piece(zero_points, groups, order);
            if zero_points.dtype != Dtype::I32 || zero_points.bytes() != place.bytes(rows) {
                return Err(format!(
                    "'{}' is {} of shape {:?}; zero points packed down the columns as I32 are read",
                    zero_points.name, zero_points.dtype, zero_points.shape
                ));
            }
            pieces.push(place);
        }
        let tensor =
            Tensor::encoded(name.to_owned(), scale.dtype, vec![rows, length], Encoding::Packed(packed), pieces);
        if tensor.is_cut() {
            return Err(format!("has rows of {length} codes, which are too long"));
        }
        Ok(tensor)
    }
}

/// The width of codes of which a row of `length` takes `words` words.
fn width(length: usize, words: usize, widths: &[Bits]) -> Result<Bits, String> {
    let fits = |bits: &Bits| bits.packed_len(length).div_ceil(4) == words;
    let known = || Bits::ALL.into_iter().filter(|bits| widths.is_empty() || widths.contains(bits));
    let fitting: Vec<Bits> = known().filter(fits).collect();
    match fitting[..] {
        [bits] => Ok(bits),
        [] => Err(format!("rows of {length} in {words} words are not codes of 2, 3, 4 or 8 bits, packed without gaps")),
        _ => {
            Err(format!("rows of {length} in {words} words may be codes of several widths; config.json must name one"))
        }
    }
}

/// Returns true if a tensor could be codes.
pub fn is_packed(tensor: &Tensor) -> bool {
    tensor.name.ends_with(PACKED) && matches!(tensor.storage, Storage::Plain { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_of_codes_follows_from_their_words() {
        assert_eq!(width(384, 48, &[]), Ok(Bits::Four));
        assert_eq!(width(384, 36, &[]), Ok(Bits::Three));
        assert_eq!(
            width(3, 1, &[Bits::Eight, Bits::Three]).unwrap_err().split(" may").next(),
            Some("rows of 3 in 1 words")
        );
        assert_eq!(width(3, 1, &[Bits::Eight]), Ok(Bits::Eight));
        // Ten codes of three bits a word, as old versions packed them.
        assert!(width(384, 39, &[]).unwrap_err().contains("packed without gaps"));
    }
}
