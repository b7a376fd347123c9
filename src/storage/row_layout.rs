//! The places of an encoded tensor's rows in a file.
//!
//! A row as its [`Encoding`](crate::types::Encoding) gives it is cut into shares; a format puts each share of all rows
//! into one piece. Writers and readers of every format with rows of a fixed size go through pieces.

use std::ops::Range;

use crate::types::Bits;

/// The order of the rows' shares in a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One share after the other.
    Rows,
    /// The bytes of a share are numbers of a few bits. The numbers of a column, one of every row, follow each other in words
    /// of 32 bits, least significant bit first. The words of all columns follow each other.
    Down {
        /// Bits of a number.
        bits: Bits,
    },
    /// One share after the other, but of every `head` rows those of the second half between those of the first. For
    /// writing alone, row by row.
    Interleaved {
        /// Rows that are mixed with each other: an even number, which divides all rows.
        head: usize,
    },
    /// Tiles of 128 rows and four bytes of each: what `cuBLAS` wants of the scales of blocks. In a tile rows 32 apart follow each
    /// other, and then those next to them. What no row fills is 0.
    Tiled,
    /// One share, which all rows have. For reading alone.
    Shared,
}

impl Order {
    /// Returns the row of the file that holds a row.
    pub fn position(self, row: usize) -> usize {
        match self {
            Self::Rows | Self::Down { .. } | Self::Tiled | Self::Shared => row,
            Self::Interleaved { head } => {
                let (start, row) = (row / head * head, row % head);
                start + row % (head / 2) * 2 + row / (head / 2)
            }
        }
    }
}

/// The rows of a tile of [`Order::Tiled`], and the bytes of each.
const TILE: [usize; 2] = [128, 4];

impl Order {
    /// Returns the rows that no two parts may have a share of: then no two write the same byte.
    pub const fn rows_together(self) -> usize {
        match self {
            Self::Rows | Self::Interleaved { .. } | Self::Shared => 1,
            Self::Down { .. } => Piece::ROWS_TOGETHER,
            Self::Tiled => TILE[0],
        }
    }
}

/// Returns where a byte of a row lies among the tiles of rows of `row_bytes`.
const fn in_tiles(row: usize, column: usize, row_bytes: usize) -> usize {
    let [height, width] = TILE;
    let tile = row / height * row_bytes.div_ceil(width) + column / width;
    let row = row % height;
    tile * height * width + row % 32 * 16 + row / 32 * width + column % width
}

/// One share of every row of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The number of its file.
    pub file: usize,
    /// The start of the piece in that file.
    pub start: usize,
    /// The bytes of a row that it holds.
    pub row_bytes: usize,
    /// The order of the shares.
    pub order: Order,
}

impl Piece {
    /// Rows that a part holds are a multiple of this, but at the end of a tensor, and of [`Order::rows_together`].
    pub const ROWS_TOGETHER: usize = 32;

    /// Returns the bytes of `rows` rows from the first on.
    pub fn bytes(&self, rows: usize) -> usize {
        match self.order {
            Order::Rows | Order::Interleaved { .. } => rows * self.row_bytes,
            Order::Down { bits } => (rows * bits.get() as usize).div_ceil(32) * 4 * self.row_bytes,
            Order::Tiled => rows.next_multiple_of(TILE[0]) * self.row_bytes.next_multiple_of(TILE[1]),
            Order::Shared => self.row_bytes,
        }
    }

    /// Returns the range of some rows in the file. Where rows share words or tiles, it begins with those of the first row.
    pub fn range(&self, rows: &Range<usize>) -> Range<usize> {
        if self.order == Order::Shared {
            return self.start..self.start + self.row_bytes;
        }
        let together = self.order.rows_together();
        let first = rows.start / together * together;
        self.start + self.bytes(first)..self.start + self.bytes(rows.end)
    }

    /// Takes the shares of some rows out of whole rows, as they are put down. `offset` is where the share begins in a row
    /// of `stride` bytes.
    pub fn gather(&self, whole: &[u8], stride: usize, offset: usize) -> Vec<u8> {
        let shares = whole.chunks_exact(stride.max(1)).map(|row| &row[offset..offset + self.row_bytes]);
        let rows = shares.len();
        let mut gathered = Vec::with_capacity(self.bytes(rows));
        match self.order {
            Order::Rows | Order::Interleaved { .. } | Order::Shared => {
                shares.for_each(|share| gathered.extend_from_slice(share));
            }
            Order::Tiled => {
                gathered.resize(self.bytes(rows), 0);
                for (row, share) in shares.enumerate() {
                    for (column, byte) in share.iter().enumerate() {
                        gathered[in_tiles(row, column, self.row_bytes)] = *byte;
                    }
                }
            }
            Order::Down { bits } => {
                gathered.resize(self.bytes(rows), 0);
                for (row, share) in shares.enumerate() {
                    for (column, code) in share.iter().enumerate() {
                        let (word, shift) = place(row, bits);
                        let low = u64::from(*code) << shift;
                        self.add_to_word(&mut gathered, word, column, low as u32);
                        self.add_to_word(&mut gathered, word + 1, column, (low >> 32) as u32);
                    }
                }
            }
        }
        gathered
    }

    /// Reverses [`Self::gather`]: puts the shares of some rows into whole rows. `shares` are the bytes of
    /// [`Self::range`].
    pub fn scatter(&self, shares: &[u8], rows: &Range<usize>, whole: &mut [u8], stride: usize, offset: usize) {
        let whole = whole.chunks_exact_mut(stride.max(1)).map(|row| &mut row[offset..offset + self.row_bytes]);
        match self.order {
            Order::Rows | Order::Interleaved { .. } => {
                for (row, share) in whole.zip(shares.chunks_exact(self.row_bytes.max(1))) {
                    row.copy_from_slice(share);
                }
            }
            Order::Shared => whole.for_each(|row| row.copy_from_slice(&shares[..self.row_bytes])),
            Order::Tiled => {
                let first = rows.start / TILE[0] * TILE[0];
                for (row, share) in (rows.start - first..).zip(whole) {
                    for (column, byte) in share.iter_mut().enumerate() {
                        *byte = shares[in_tiles(row, column, self.row_bytes)];
                    }
                }
            }
            Order::Down { bits } => {
                let first = rows.start / Self::ROWS_TOGETHER * Self::ROWS_TOGETHER;
                for (row, share) in (rows.start - first..).zip(whole) {
                    let (word, shift) = place(row, bits);
                    for (column, code) in share.iter_mut().enumerate() {
                        let low = u64::from(self.word(shares, word, column));
                        let high = u64::from(self.word(shares, word + 1, column));
                        *code = ((high << 32 | low) >> shift) as u8 & bits.max_code();
                    }
                }
            }
        }
    }

    /// Returns the word of a column; 0 after the last.
    fn word(&self, words: &[u8], word: usize, column: usize) -> u32 {
        let at = (word * self.row_bytes + column) * 4;
        words.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn add_to_word(&self, words: &mut [u8], word: usize, column: usize, value: u32) {
        let at = (word * self.row_bytes + column) * 4;
        let sum = self.word(words, word, column) | value;
        if let Some(bytes) = words.get_mut(at..at + 4) {
            bytes.copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// Returns the word and the bit in it where a row's number begins, counted from a row that begins a word.
const fn place(row: usize, bits: Bits) -> (usize, usize) {
    let bit = row * bits.get() as usize;
    (bit / 32, bit % 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_rows_come_back_together() {
        let rows: Vec<u8> = (0..30).collect();
        let piece = |row_bytes| Piece { file: 0, start: 7, row_bytes, order: Order::Rows };
        let (a, b) = (piece(2), piece(3));
        let (x, y) = (a.gather(&rows, 5, 0), b.gather(&rows, 5, 2));
        assert_eq!((&x[..4], &y[..4]), (&[0, 1, 5, 6][..], &[2, 3, 4, 7][..]));
        let mut back = vec![0; 30];
        a.scatter(&x, &(0..6), &mut back, 5, 0);
        b.scatter(&y, &(0..6), &mut back, 5, 2);
        assert_eq!(back, rows);
        assert_eq!((a.range(&(2..4)), a.bytes(6)), (11..15, 12));
    }

    #[test]
    fn halves_of_heads_are_dealt_into_each_other() {
        let order = Order::Interleaved { head: 6 };
        let positions: Vec<usize> = (0..12).map(|row| order.position(row)).collect();
        assert_eq!(positions, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]);
    }

    #[test]
    fn scales_of_blocks_lie_in_tiles() {
        let piece = Piece { file: 0, start: 0, row_bytes: 5, order: Order::Tiled };
        let rows: Vec<u8> = (0..129 * 5).map(|i| (i % 251 + 1) as u8).collect();
        let tiles = piece.gather(&rows, 5, 0);
        assert_eq!((tiles.len(), piece.bytes(129)), (256 * 8, 256 * 8));
        for (row, column, at) in [(0, 0, 0), (1, 0, 16), (32, 1, 5), (127, 3, 511), (0, 4, 512), (128, 4, 1536)] {
            assert_eq!(tiles[at], rows[row * 5 + column], "{row} {column}");
        }
        assert_eq!(tiles.iter().filter(|byte| **byte > 0).count(), 129 * 5);
        for range in [0..129, 5..9, 128..129] {
            let mut back = vec![0; 5 * range.len()];
            piece.scatter(&tiles[piece.range(&range)], &range, &mut back, 5, 0);
            assert_eq!(back, rows[5 * range.start..5 * range.end], "{range:?}");
        }
        let shared = Piece { row_bytes: 2, order: Order::Shared, ..piece };
        let mut back = vec![0; 6];
        shared.scatter(&[7, 8], &(4..7), &mut back, 2, 0);
        assert_eq!((back, shared.range(&(4..7)), shared.bytes(9)), (vec![7, 8, 7, 8, 7, 8], 0..2, 2));
    }

    #[test]
    fn numbers_are_packed_down_the_columns() {
        // Two columns of three bits: code 10 of each straddles its first two words.
        let piece = Piece { file: 0, start: 0, row_bytes: 2, order: Order::Down { bits: Bits::Three } };
        let rows: Vec<u8> = (0..70).flat_map(|row| [row % 8, 7 - row % 5]).collect();
        let words = piece.gather(&rows, 2, 0);
        assert_eq!((words.len(), piece.bytes(70)), (7 * 2 * 4, 7 * 2 * 4));
        let bit = |row: usize, column: usize, bit: usize| {
            let at = row * 3 + bit;
            words[(at / 32 * 2 + column) * 4 + at % 32 / 8] >> (at % 8) & 1
        };
        for (row, codes) in rows.chunks(2).enumerate() {
            for (column, code) in codes.iter().enumerate() {
                assert_eq!((0..3).map(|b| bit(row, column, b) << b).sum::<u8>(), *code, "row {row}, column {column}");
            }
        }
        for range in [0..70, 5..9, 32..33, 40..70] {
            let mut back = vec![0; 2 * range.len()];
            piece.scatter(&words[piece.range(&range)], &range, &mut back, 2, 0);
            assert_eq!(back, rows[2 * range.start..2 * range.end], "{range:?}");
        }
    }
}
