//! The safetensors container.

pub mod header;
pub(in crate::io) mod json;

pub use header::{Entry, Header};
