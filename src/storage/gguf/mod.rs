//! The GGUF container, version 3 (and 2, which has the same layout).

mod cursor;
pub mod header;
pub mod value;
pub mod writer;

/// The first bytes of a file.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// The alignment of tensors, unless the file says otherwise.
pub const ALIGNMENT: usize = 32;

/// The most dimensions of a tensor. llama.cpp reads four; the patch embedding of video models has five, and loaders of
/// diffusion models read them.
pub const MAX_RANK: usize = 5;
