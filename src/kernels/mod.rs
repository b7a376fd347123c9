//! Kernels: slices in, slices filled. No Arrow, no allocation, no failure.
//!
//! Every kernel gives the same bits on every CPU: lanes are fixed and folded in a fixed order, rounding is half to even,
//! nothing is contracted to a fused multiply-add, and a reciprocal is computed once, as written. Lengths and finiteness
//! are checked by the array layer; a kernel that is called otherwise gives other numbers, but does not panic.

// Only what is inlined into a kernel is compiled for its instruction set (`dispatch`).
#![allow(clippy::inline_always)]

mod codes;
pub mod comfy;
pub mod dispatch;
pub mod entropy;
mod errors;
mod floats;
pub mod gguf;
mod inputs;
mod lanes;
pub mod mlx;
pub mod search;
#[cfg(test)]
mod tests;

pub use codes::{affine, affine_extreme, dequantize, extreme, gptq, minmax, pack, params, quantize, range, scale};
pub use errors::{cosine_similarity, error_bound, error_stats, mse, sqnr};
pub use floats::{finite, narrow, widen};
pub use inputs::{channel, cholesky, hessian, triangle};
