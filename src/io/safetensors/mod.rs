//! The safetensors container.

pub mod header;
pub(in crate::io) mod json;
pub mod writer;

pub use header::{Entry, Header};
