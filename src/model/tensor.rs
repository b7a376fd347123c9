//! One tensor, and how its bytes split into rows.

use std::ops::Range;

use super::name::layer_and_module;
use crate::{
    storage::{dtype::Dtype, row_layout::Piece, safetensors::header::Entry},
    types::Encoding,
};

/// One tensor of a model.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its name as in the file.
    pub name: String,
    /// The first integer part of the name.
    pub layer: Option<i32>,
    /// The name without layer prefix and `.weight`.
    pub module: String,
    /// The type of its elements; of an encoded tensor, that which they stand for.
    pub dtype: Dtype,
    /// Its dimensions; none for a scalar.
    pub shape: Vec<usize>,
    /// The rows that it gives, at least one.
    pub rows: usize,
    /// The elements of a row.
    pub row_length: usize,
    /// The place of its rows.
    pub storage: Storage,
    /// The factor of its elements.
    pub scale: Scale,
}

/// The place of the rows of a tensor, and their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Storage {
    /// One after the other, elements of the tensor's dtype.
    Plain {
        /// The number of the file.
        file: usize,
        /// Their place in the file.
        range: Range<usize>,
    },
    /// Encoded, a share of each row in each piece.
    Encoded {
        /// The encoding of a row: the shares one after the other.
        encoding: Encoding,
        /// At least one.
        pieces: Vec<Piece>,
    },
    /// In the parts of an output folder.
    Parts {
        /// The number of the part in which it begins.
        file: usize,
        /// The bytes that it takes there.
        bytes: usize,
    },
}

/// The factor of the elements of a tensor when they are widened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scale {
    /// Nothing: it is no fp8 tensor.
    None,
    /// One number for all of it.
    Tensor {
        /// The companion's number.
        companion: usize,
    },
    /// One number for each row.
    Row {
        /// The companion's number.
        companion: usize,
    },
    /// One number for each block of its last two dimensions.
    Block {
        /// The companion's number.
        companion: usize,
        /// The height and the width of a block.
        sides: [usize; 2],
    },
    /// One: it is an fp8 tensor without any scale beside it.
    One,
    /// It is an fp8 tensor whose scale cannot be told, and why. Asking for its weights is an error; its bytes can be
    /// read as they are.
    Unknown(String),
}

impl Scale {
    /// The number of the companion, where there is one.
    pub fn companion(&self) -> Option<usize> {
        match self {
            Self::Tensor { companion } | Self::Row { companion } | Self::Block { companion, .. } => Some(*companion),
            Self::None | Self::One | Self::Unknown(_) => None,
        }
    }
}

impl Tensor {
    pub(crate) fn new(entry: Entry, file: usize) -> Self {
        let (layer, module) = layer_and_module(&entry.name);
        let module = module.to_owned();
        let (rows, row_length) = rows_and_length(entry.dtype, &entry.shape);
        let Entry { name, dtype, shape, range } = entry;
        let storage = Storage::Plain { file, range };
        Self { name, layer, module, dtype, shape, rows, row_length, storage, scale: Scale::None }
    }

    /// An encoded tensor, of values of `dtype`.
    pub fn encoded(name: String, dtype: Dtype, shape: Vec<usize>, encoding: Encoding, pieces: Vec<Piece>) -> Self {
        let entry = Entry { name, dtype, shape, range: 0..0 };
        Self { storage: Storage::Encoded { encoding, pieces }, ..Self::new(entry, 0) }
    }

    /// The type as the weights table has it: that of the elements, or how they are encoded.
    pub fn dtype_name(&self) -> &'static str {
        match &self.storage {
            Storage::Plain { .. } | Storage::Parts { .. } => self.dtype.name(),
            Storage::Encoded { encoding, .. } => encoding.dtype(),
        }
    }

    /// Returns true if its rows are elements one after the other.
    pub fn is_plain(&self) -> bool {
        matches!(self.storage, Storage::Plain { .. })
    }

    /// Returns true if it is stored in blocks of GGUF.
    pub fn is_in_blocks(&self) -> bool {
        matches!(self.storage, Storage::Encoded { encoding: Encoding::Block(_), .. })
    }

    /// The number of the file in which it begins.
    pub fn file(&self) -> usize {
        match &self.storage {
            Storage::Plain { file, .. } | Storage::Parts { file, .. } => *file,
            Storage::Encoded { pieces, .. } => pieces.first().map_or(0, |piece| piece.file),
        }
    }

    /// True if its rows are pieces of longer ones, which are its channels.
    pub fn is_cut(&self) -> bool {
        self.elements() > 0 && self.rows > channels(&self.shape)
    }

    /// Its bytes.
    pub fn bytes(&self) -> usize {
        match &self.storage {
            Storage::Plain { range, .. } => range.len(),
            Storage::Encoded { pieces, .. } => pieces.iter().map(|piece| piece.bytes(self.rows)).sum(),
            Storage::Parts { bytes, .. } => *bytes,
        }
    }

    /// Its elements.
    pub fn elements(&self) -> usize {
        self.rows * self.row_length
    }

    /// The bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.bytes() / self.rows
    }

    /// The bytes that a row costs in memory, about: those stored, and at least half of what it widens to.
    pub fn row_cost(&self) -> usize {
        match &self.storage {
            Storage::Plain { .. } => self.row_bytes(),
            Storage::Encoded { .. } | Storage::Parts { .. } => self.row_bytes().max(2 * self.row_length),
        }
    }

    /// Returns the place of the bytes of some of its rows in its file: of an encoded tensor, the first share of them.
    pub(crate) fn rows_range(&self, rows: &Range<usize>) -> Range<usize> {
        let row_bytes = self.row_bytes();
        match &self.storage {
            Storage::Plain { range, .. } => range.start + rows.start * row_bytes..range.start + rows.end * row_bytes,
            Storage::Encoded { pieces, .. } => pieces.first().map_or(0..0, |piece| piece.range(rows)),
            Storage::Parts { .. } => 0..0,
        }
    }
}

/// Elements of a row at most, where a longer one can be cut.
const MOST_ROW: usize = 1 << 20;

/// The step and the least length of the rows that a longer one is cut into: they end at a byte and at a
/// block, and are not so many that what stands beside them counts.
const CUT: std::ops::RangeInclusive<usize> = 8..=256;
const LEAST_CUT: usize = 1 << 12;

/// The elements of the rows that one of `length` is cut into, all alike. Gives `length` where it is not longer than
/// [`MOST_ROW`], or has no divisor that would do.
fn cut_length(length: usize) -> usize {
    let unit = 1 << length.trailing_zeros().min(CUT.end().trailing_zeros());
    if length <= MOST_ROW || !CUT.contains(&unit) {
        return length;
    }
    let cuts = (LEAST_CUT / unit..=MOST_ROW / unit).rev().find(|times| (length / unit).is_multiple_of(*times));
    cuts.map_or(length, |times| times * unit)
}

/// Rank 0 and 1 are one row. The rows of rank 2 and 3 are indexed by all dimensions but the last, those of higher ranks
/// (convolutions) by the first.
///
/// Two kinds of tensor are one row whatever their rank: one without elements, so that every tensor has a row that
/// carries it on (and a shape such as `[2^60, 0]` does not have 2^60 of them), and one of packed elements whose rows
/// would end inside a byte. A row longer than [`MOST_ROW`] is cut into several; such a tensor is never quantized.
fn rows_and_length(dtype: Dtype, shape: &[usize]) -> (usize, usize) {
    let elements: usize = shape.iter().product();
    if elements == 0 {
        return (1, 0);
    }
    let length = elements / channels(shape);
    let length = if (length * dtype.bits()).is_multiple_of(8) { length } else { elements };
    let cut = cut_length(length);
    (elements / cut, cut)
}

/// The channels of a shape.
fn channels(shape: &[usize]) -> usize {
    match shape {
        [] | [_] => 1,
        [leading @ .., _] if shape.len() <= 3 => leading.iter().product(),
        [first, ..] => *first,
    }
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
    fn long_rows_are_cut_alike_where_they_have_a_divisor() {
        for (shape, expected) in [
            (&[1 << 20][..], (1, 1 << 20)),
            (&[1 << 28], (256, 1 << 20)),
            (&[250_000_000], (625, 400_000)),
            (&[1, 3 << 20], (3, 1 << 20)),
            (&[2, 3 << 20], (6, 1 << 20)),
            // No divisor that is a multiple of 8 and as long as is asked for.
            (&[(1 << 20) + 1], (1, (1 << 20) + 1)),
            (&[8 * 1_000_003], (1, 8 * 1_000_003)),
        ] {
            assert_eq!(rows_and_length(Dtype::BF16, shape), expected, "{shape:?}");
            let entry = Entry { name: "a".into(), dtype: Dtype::BF16, shape: shape.to_vec(), range: 0..0 };
            assert_eq!(Tensor::new(entry, 0).is_cut(), expected.0 > channels(shape), "{shape:?}");
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
