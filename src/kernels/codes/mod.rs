//! Codes of rows: their parameters, chosen and stored, and weights to codes and back.

pub mod affine;
pub mod affine_extreme;
pub mod dequantize;
pub mod extreme;
pub mod gptq;
pub mod minmax;
pub mod pack;
pub mod params;
pub mod quantize;
pub mod range;
pub mod scale;
