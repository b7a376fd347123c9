//! The GGUF container, version 3 (and 2, which has the same layout).

pub mod header;
pub(in crate::io) mod read;
mod value;
pub mod writer;

pub use header::{Element, Entry, Header};
pub use value::{Pair, Value};

/// What a file begins with.
pub const MAGIC: [u8; 4] = *b"GGUF";

/// What tensors begin at a multiple of, unless the file says otherwise.
pub const ALIGNMENT: usize = 32;

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 4;
