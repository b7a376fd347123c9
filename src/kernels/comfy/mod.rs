//! The layouts of `ComfyUI`: weights to codes and back, as comfy-kitchen computes them.

mod blocks;
mod convrot;
pub(super) mod float8;
mod grouped;
mod rows;
#[cfg(test)]
mod tests;

pub use blocks::{decode_mxfp8, decode_nvfp4, encode_mxfp8, encode_nvfp4};
pub use convrot::rotate;
pub use float8::encode_fp8;
pub use grouped::{GROUP, decode_grouped4, decode_grouped6, encode_grouped4, encode_grouped6};
pub use rows::{decode_int4, decode_int8, encode_int4, encode_int8, multiply};
