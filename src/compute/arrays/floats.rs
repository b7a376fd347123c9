//! Rows as stored floats.

use crate::{
    compute::ComputeError,
    kernels::{
        narrow::{narrow_bf16, narrow_f16},
        widen::{narrow_f64, widen_bf16, widen_f16},
    },
    types::Float,
};

/// Stores a row as a float, little-endian; `row` is its number in errors.
///
/// # Errors
/// Returns an error if a finite weight is beyond what the float holds.
pub(in crate::compute) fn narrow(
    float: Float,
    weights: &[f32],
    row: usize,
    out: &mut [u8],
) -> Result<(), ComputeError> {
    match float {
        Float::BF16 => narrow_bf16(weights, out),
        Float::F16 => narrow_f16(weights, out),
        Float::F32 => {
            for (x, out) in weights.iter().zip(out.as_chunks_mut().0) {
                *out = x.to_le_bytes();
            }
        }
        Float::F64 => {
            for (x, out) in weights.iter().zip(out.as_chunks_mut().0) {
                *out = f64::from(*x).to_le_bytes();
            }
        }
    }
    let lost = |infinite: fn(u16) -> bool| {
        let stored = out.as_chunks().0.iter().map(|x| u16::from_le_bytes(*x));
        weights.iter().zip(stored).position(|(x, stored)| infinite(stored) && x.is_finite())
    };
    let lost = match float {
        Float::F16 => lost(|stored| stored & 0x7fff == 0x7c00),
        Float::BF16 => lost(|stored| stored & 0x7fff == 0x7f80),
        Float::F32 | Float::F64 => None,
    };
    match lost {
        None => Ok(()),
        Some(element) => Err(ComputeError::TooLarge { row, element, value: weights[element], float: float.name() }),
    }
}

/// Reads a row of floats.
pub(in crate::compute) fn widen(float: Float, bytes: &[u8], out: &mut [f32]) {
    match float {
        Float::BF16 => widen_bf16(bytes, out),
        Float::F16 => widen_f16(bytes, out),
        Float::F64 => narrow_f64(bytes, out),
        Float::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

/// Rounds a row to a float.
pub(in crate::compute) fn round(float: Float, weights: &mut [f32]) {
    const BLOCK: usize = 256;
    let mut bytes = [0; 2 * BLOCK];
    for weights in weights.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..2 * weights.len()];
        match float {
            Float::BF16 => narrow_bf16(weights, bytes),
            Float::F16 => narrow_f16(weights, bytes),
            Float::F32 | Float::F64 => return,
        }
        widen(float, bytes, weights);
    }
}
