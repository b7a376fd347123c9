//! One tensor, and how its bytes split into rows.

use std::ops::Range;

use super::Scale;
use crate::io::{Dtype, name::layer_and_module, safetensors::Entry};

/// One tensor of a model.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name as in the file.
    pub name: String,
    /// The first integer part of the name.
    pub layer: Option<i32>,
    /// The name without layer prefix and `.weight`.
    pub module: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<usize>,
    /// The rows that it gives, at least one.
    pub rows: usize,
    /// The elements of a row.
    pub row_length: usize,
    /// The number of its file.
    pub file: usize,
    /// Where its bytes lie in that file.
    pub range: Range<usize>,
    /// What its elements are to be multiplied by.
    pub scale: Scale,
}

impl Tensor {
    pub(in crate::io) fn new(entry: Entry, file: usize) -> Self {
        let (layer, module) = layer_and_module(&entry.name);
        let module = module.to_owned();
        let (rows, row_length) = rows_and_length(entry.dtype, &entry.shape);
        let Entry { name, dtype, shape, range } = entry;
        Self { name, layer, module, dtype, shape, rows, row_length, file, range, scale: Scale::None }
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        self.range.len()
    }

    /// Its elements.
    pub fn elements(&self) -> usize {
        self.rows * self.row_length
    }

    /// The bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.bytes() / self.rows
    }

    /// Where the bytes of some of its rows lie in its file.
    pub(in crate::io) fn rows_range(&self, rows: &Range<usize>) -> Range<usize> {
        let row_bytes = self.row_bytes();
        self.range.start + rows.start * row_bytes..self.range.start + rows.end * row_bytes
    }
}

/// Rank 0 and 1 are one row. The rows of rank 2 and 3 are indexed by all dimensions but the last, those of higher ranks
/// (convolutions) by the first.
///
/// Two kinds of tensor are one row whatever their rank: one without elements, so that every tensor has a row that
/// carries it on (and a shape such as `[2^60, 0]` does not have 2^60 of them), and one of packed elements whose rows
/// would end inside a byte.
fn rows_and_length(dtype: Dtype, shape: &[usize]) -> (usize, usize) {
    let elements: usize = shape.iter().product();
    let rows: usize = match shape {
        [] | [_] => 1,
        [leading @ .., _] if shape.len() <= 3 => leading.iter().product(),
        [first, ..] => *first,
    };
    if elements == 0 {
        return (1, 0);
    }
    let length = elements / rows;
    if (length * dtype.bits()).is_multiple_of(8) { (rows, length) } else { (1, elements) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_rank() {
        for (shape, expected) in [
            (&[][..], (1, 1)),
            (&[5], (1, 5)),
            (&[3, 4], (3, 4)),
            (&[2, 3, 4], (6, 4)),
            (&[8, 4, 3, 3], (8, 36)),
            (&[8, 4, 3, 3, 2], (8, 72)),
            (&[0], (1, 0)),
            (&[0, 4], (1, 0)),
            (&[4, 0], (1, 0)),
            (&[1 << 60, 0], (1, 0)),
        ] {
            assert_eq!(rows_and_length(Dtype::F32, shape), expected, "{shape:?}");
        }
    }

    #[test]
    fn packed_rows_end_at_a_byte() {
        assert_eq!(rows_and_length(Dtype::F4, &[3, 4]), (3, 4));
        assert_eq!(rows_and_length(Dtype::F4, &[4, 3]), (1, 12));
        assert_eq!(rows_and_length(Dtype::F6_E2M3, &[3, 4]), (3, 4));
        assert_eq!(rows_and_length(Dtype::F6_E3M2, &[4, 2]), (1, 8));
    }
}
