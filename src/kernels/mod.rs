//! Kernels: slices in, slices filled. No Arrow, no allocation, no failure.
//!
//! Every kernel gives the same bits on every CPU: lanes are fixed and folded in a fixed order, rounding is half to even,
//! nothing is contracted to a fused multiply-add, and a reciprocal is computed once, as written. Lengths and finiteness
//! are checked by the array layer; a kernel that is called otherwise gives other numbers, but does not panic.

// Only what is inlined into a kernel is compiled for its instruction set (`dispatch`).
#![allow(clippy::inline_always)]

pub mod affine;
pub mod channel;
pub mod cholesky;
pub mod cosine_similarity;
pub mod dequantize;
#[cfg(test)]
mod digest;
pub mod dispatch;
pub mod error_stats;
pub mod extreme;
pub mod finite;
pub mod gguf;
pub mod gptq;
pub mod hessian;
mod lanes;
pub mod minmax;
pub mod mse;
pub mod narrow;
pub mod pack;
pub mod params;
pub mod quantize;
pub mod range;
#[cfg(test)]
pub(crate) mod samples;
pub mod scale;
pub mod search;
pub mod sqnr;
pub mod triangle;
pub mod widen;
