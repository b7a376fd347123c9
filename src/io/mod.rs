//! Bytes on disk to record batches and back.

pub mod activations;
mod atomic_file;
pub mod check;
pub mod choice;
pub mod columns;
mod digest;
pub mod dtype;
pub mod equalization;
pub mod error;
pub mod escape;
pub mod export;
pub mod gguf;
mod guard;
pub mod hessians;
pub mod memory;
pub mod mmap;
pub mod model;
pub mod name;
pub mod output;
pub mod piece;
pub mod quantized_model;
pub mod safetensors;
pub mod scan;
pub mod spec;

pub use choice::{Choice, Selection};
pub use dtype::Dtype;
pub use equalization::Equalization;
pub use error::IoError;
pub use export::Export;
pub use model::{Model, Tensor};
pub use output::{Existing, OutputFolder};
pub use quantized_model::QuantizedModel;
pub use scan::{Part, Scan};
pub use spec::{Spec, SpecError};
