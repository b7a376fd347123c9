//! The files of an output folder: the manifest, and parts read back.

pub mod manifest;
pub mod part_reader;
pub(crate) mod row_digest;
pub mod tensor_report;
