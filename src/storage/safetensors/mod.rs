//! The safetensors container.

pub mod header;
pub(crate) mod json;
pub mod writer;
