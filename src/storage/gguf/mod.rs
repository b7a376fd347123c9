//! The GGUF container, version 3 (and 2, which has the same layout).

mod cursor;
pub mod header;
pub mod value;
pub mod writer;

/// The first bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The alignment of tensors, unless the file says otherwise.
pub const ALIGNMENT: usize = 32;

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 4;
