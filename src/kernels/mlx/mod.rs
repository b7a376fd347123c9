//! The rows of MLX: weights to codes and back, as MLX computes them on the CPU.

mod affine;
mod blocks;
mod least_squares;
#[cfg(test)]
mod tests;

pub use affine::{add_biases, encode_codes, multiply_codes, range};
pub use blocks::{decode_e2m1, decode_e4m3, encode_e2m1, encode_e4m3};
pub use least_squares::search;
