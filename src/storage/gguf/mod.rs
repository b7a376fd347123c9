//! The GGUF container, version 3 (and 2, which has the same layout).

mod cursor;
pub mod header;
pub mod value;
pub mod writer;

/// What a file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// What tensors begin at a multiple of, unless the file says otherwise.
pub const ALIGNMENT: usize = 32;

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 4;
