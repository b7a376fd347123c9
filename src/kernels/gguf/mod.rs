//! The block types of GGUF: weights that share scales, packed as llama.cpp defines them.
//!
//! A block is 32 or 256 consecutive elements of one row and stands for itself: its bytes need nothing from outside.
//! All numbers are little-endian.

/// Calls `$function(from, to)` for every whole block of `$from` and its place in `$to`. A macro: a function that is handed
/// to another is called through a shim, which is compiled for the baseline and brings what it calls along.
macro_rules! each {
    ($function:path, $from:expr, $to:expr) => {
        for (from, to) in $from.as_chunks().0.iter().zip($to.as_chunks_mut().0) {
            $function(from, to);
        }
    };
}

mod affine;
mod decode;
mod encode;
mod legacy;
mod pack;
mod schedule;
mod super_block;
mod symmetric;

pub use decode::decode_blocks;
pub use encode::encode_blocks;

/// A type of blocks, by the name that GGUF has for it. The types of 32 elements are coded as they come, those of 256 are
/// searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are the documentation: those of the format")]
pub enum BlockType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl BlockType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Elements of a block: 32 or 256.
    #[must_use]
    pub const fn elements(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Returns the bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }
}

#[cfg(test)]
mod tests;
