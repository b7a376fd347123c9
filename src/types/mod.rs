//! Arrow schemas and the options of a quantization. No data, no allocation beyond the schemas.

pub mod error_stats;
pub mod options;
pub mod output;
pub mod quantized;
pub mod report;
pub mod tensors;
pub mod weights;

pub use options::{Bits, Method, OptionsError, QuantizeOptions};
