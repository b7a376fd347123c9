//! Blocks of small floats: `nvfp4` and `mxfp8`.

use super::{
    float8::{E2M1, E4M3_MOST, code_of_e2m1, e4m3, near_e2m1, of_e4m3},
    rows::absmax,
};
use crate::kernels::{
    dispatch::kernel,
    lanes::{fold, max, min},
};

/// The weights of a block of `nvfp4`.
const BLOCK: usize = 16;

/// The codes of E4M3 that the search tries below and above that of the range.
const BELOW: u8 = 3;
const ABOVE: u8 = 6;

/// Returns the squared error of a block whose E2M1 are multiplied by `scale`.
#[inline(always)]
fn error(block: &[f32; BLOCK], scale: f32, inverse: f32) -> f32 {
    let mut errors = [0f32; BLOCK];
    for i in 0..BLOCK {
        let x = block[i].abs();
        let lost = x - scale * near_e2m1(min(x * inverse, 6.0));
        errors[i] = lost * lost;
    }
    fold(errors, |a, b| a + b)
}

/// Returns the scale's code of least squared error near that of the range.
#[inline(always)]
fn searched(block: &[f32; BLOCK], range: u8, tensor_scale: f32) -> u8 {
    let (mut best, mut least) = (range, f32::INFINITY);
    let near = range.saturating_sub(BELOW).max(1)..=(range + ABOVE).min(0x7e);
    // The range first: another must be better.
    for code in std::iter::once(range).chain(near) {
        let scale = tensor_scale * of_e4m3(code);
        if scale <= 0.0 {
            continue;
        }
        let found = error(block, scale, 1.0 / scale);
        if found < least {
            (best, least) = (code, found);
        }
    }
    best
}

kernel! {
    /// Encodes a row in blocks of 16 E2M1, the first of two in the high half of a byte, each with an E4M3 as its scale, which
    /// counts times `tensor_scale`. Without `search` the largest magnitude of a block becomes 6.
    ///
    /// ```
    /// let (mut codes, mut scales) = ([0; 8], [0; 1]);
    /// let mut row = [0.0; 16];
    /// (row[0], row[1]) = (6.0, -1.5);
    /// arrow_quant::kernels::comfy::encode_nvfp4(&row, 1.0, false, &mut codes, &mut scales);
    /// assert_eq!((codes[0], scales), (0x7b, [0x38]));
    /// ```
    pub fn encode_nvfp4(row: &[f32], tensor_scale: f32, search: bool, codes: &mut [u8], scales: &mut [u8]) {
        let blocks = row.as_chunks::<BLOCK>().0.iter().zip(codes.as_chunks_mut::<8>().0).zip(scales);
        for ((block, codes), code) in blocks {
            let most = absmax(block);
            let range = if tensor_scale > 0.0 { e4m3(min((most / 6.0) / tensor_scale, E4M3_MOST)) } else { 0 };
            *code = if search && most > 0.0 { searched(block, range, tensor_scale) } else { range };
            let scale = tensor_scale * of_e4m3(*code);
            let mut small = [0u8; BLOCK];
            for (x, small) in block.iter().zip(&mut small) {
                let magnitude = if scale > 0.0 { near_e2m1(min(x.abs() / scale, 6.0)) } else { 0.0 };
                *small = (x.to_bits() >> 28) as u8 & 8 | code_of_e2m1(magnitude);
            }
            for (pair, byte) in small.as_chunks::<2>().0.iter().zip(codes) {
                *byte = pair[0] << 4 | pair[1];
            }
        }
    }
}

kernel! {
    /// Decodes what [`encode_nvfp4`](fn@encode_nvfp4) makes: an E2M1 times the product of both scales.
    pub fn decode_nvfp4(codes: &[u8], scales: &[u8], tensor_scale: f32, out: &mut [f32]) {
        let blocks = out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(codes.as_chunks::<8>().0).zip(scales);
        for ((out, codes), scale) in blocks {
            let scale = tensor_scale * if scale & 0x7f == 0x7f { f32::NAN } else { of_e4m3(*scale) };
            for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
                *pair = [E2M1[usize::from(byte >> 4)] * scale, E2M1[usize::from(byte & 15)] * scale];
            }
        }
    }
}

/// Returns the exponent of the least power of two that is at least `x`, as the logarithm in f32 rounded up has it: a number
/// that exceeds a power of two by less than the logarithm can tell counts as that power.
#[inline(always)]
fn exponent_above(x: f32) -> i32 {
    let (exponent, mantissa) = ((x.to_bits() >> 23) as i32 - 127, x.to_bits() & 0x7f_ffff);
    // Half of what the last bit of the logarithm is worth, in the steps of the mantissa.
    let size = exponent.unsigned_abs();
    let towards_zero = exponent < 0 && size.is_power_of_two();
    let half = if size == 0 { 0.0 } else { f32::from(1u16 << size.ilog2()) * 0.5 };
    let half = if towards_zero { half * 0.5 } else { half };
    exponent + i32::from(mantissa as f32 * std::f32::consts::LOG2_E > half)
}

/// Returns what an exponent of `mxfp8` stands for. Comfy-kitchen takes 0 for 0.
#[inline(always)]
fn of_exponent(code: u8) -> f32 {
    if code == u8::MAX { f32::NAN } else { f32::from_bits(u32::from(code) << 23) }
}

kernel! {
    /// Encodes a row in blocks of 32 E4M3, each with a power of two as its scale: the least that the largest magnitude over
    /// 448 asks for.
    ///
    /// ```
    /// let (mut codes, mut scales) = ([0; 32], [0; 1]);
    /// arrow_quant::kernels::comfy::encode_mxfp8(&[448.0; 32], &mut codes, &mut scales);
    /// assert_eq!((codes[0], scales), (0x7e, [127]));
    /// ```
    pub fn encode_mxfp8(row: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        let blocks = row.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0).zip(scales);
        for ((block, codes), scale) in blocks {
            let most = max(absmax(block) / E4M3_MOST, f32::MIN_POSITIVE * 0.5);
            let exponent = if most < f32::MIN_POSITIVE { -127 } else { exponent_above(most) };
            *scale = (exponent + 127).clamp(0, 254) as u8;
            // Powers of two divide and multiply alike; below the least normal the quotient is 0 all the same.
            let power = if *scale == 0 { f32::MIN_POSITIVE * 0.5 } else { of_exponent(*scale) };
            for (x, code) in block.iter().zip(codes) {
                *code = e4m3(x / power);
            }
        }
    }
}

kernel! {
    /// Decodes what [`encode_mxfp8`](fn@encode_mxfp8) makes.
    pub fn decode_mxfp8(codes: &[u8], scales: &[u8], out: &mut [f32]) {
        let blocks = out.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0).zip(scales);
        for ((out, codes), scale) in blocks {
            let scale = of_exponent(*scale);
            for (out, code) in out.iter_mut().zip(codes) {
                *out = if code & 0x7f == 0x7f { f32::NAN } else { of_e4m3(*code) } * scale;
            }
        }
    }
}
