//! Arrow schemas and the options of a quantization. No data, no allocation beyond the schemas.

pub mod activations;
pub mod block;
pub mod encoding;
pub mod equalization;
pub mod equalize;
pub mod error_stats;
pub mod factor;
pub mod number_or_text;
pub mod options;
pub mod output;
pub mod part_format;
pub mod quantized;
pub mod report;
mod serde_text;
pub mod tensors;
pub mod weights;

pub use activations::{ActivationBits, TimeMethod};
pub use block::Block;
pub use encoding::{Encoding, Float, Packed};
pub use equalize::Equalize;
pub use options::{Bits, GroupSize, Method, OptionsError, QuantizeOptions};
pub use part_format::PartFormat;
#[cfg(feature = "io")]
pub(crate) use serde_text::serde_as_text;
