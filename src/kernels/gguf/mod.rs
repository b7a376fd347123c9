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

#[cfg(test)]
mod tests;
