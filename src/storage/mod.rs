//! Containers on disk: safetensors, GGUF, the files of an output folder; where rows lie in a file.

pub(crate) mod atomic_file;
pub mod contents;
pub(crate) mod digest;
pub mod dtype;
pub mod error;
pub mod escape;
pub mod file_layout;
pub mod folder;
pub mod gguf;
pub(crate) mod guard;
pub mod parquet_table;
pub mod row_layout;
pub mod safetensors;
pub mod stamp;
