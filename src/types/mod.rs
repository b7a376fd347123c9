//! Arrow schemas and the options of a quantization. No data, no allocation beyond the schemas.

mod activation_options;
mod block;
mod comfy;
mod encoding;
mod equalize;
mod error_sums;
mod float;
mod mlx;
mod number_or_text;
mod options;
mod part_format;
mod rate;
mod schemas;
mod serde_text;

pub use activation_options::{ActivationBits, TimeMethod};
pub use block::Block;
pub use comfy::{Comfy, ComfyLayout, is_rotation};
pub use encoding::{Encoding, Packed};
pub use equalize::Equalize;
pub use error_sums::ErrorSums;
pub use float::Float;
pub use mlx::{Mlx, MlxType};
pub use options::{Bits, GroupSize, Method, OptionsError, QuantizeOptions};
pub use part_format::PartFormat;
pub use rate::{Coding, Rate};
pub use schemas::{activations, equalization, error_stats, factor, output, quantized, report, tensors, weights};
#[cfg(feature = "io")]
pub(crate) use serde_text::serde_as_text;
