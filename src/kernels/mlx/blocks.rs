//! Blocks of small floats: `mxfp4`, `mxfp8` and `nvfp4`. A block of 32 has a power of two as its scale, one of 16 an E4M3.

use super::affine::extremes;
use crate::kernels::{
    comfy::float8::{E2M1, E4M3_MOST, e4m3, near_e2m1, of_e4m3},
    dispatch::kernel,
    lanes::{fold, max, min},
};

/// The largest E2M1.
const E2M1_MOST: f32 = 6.0;

/// The codes of E4M3 that the search tries below and above that of the range.
const BELOW: u8 = 3;
const ABOVE: u8 = 6;

/// Returns the exponent of the least power of two of at least `x`, which is not negative; that of 1 for 0.
#[inline(always)]
fn exponent(x: f32) -> u8 {
    let bits = x.to_bits();
    if bits == 0 {
        return 127;
    }
    // 2^-127, which the code 0 stands for, is below the least normal number.
    let above = if bits < 1 << 23 { bits > 1 << 22 } else { bits & 0x7f_ffff > 0 };
    ((bits >> 23) as u8) + u8::from(above)
}

#[inline(always)]
fn of_exponent(code: u8) -> f32 {
    f32::from_bits(if code == 0 { 1 << 22 } else { u32::from(code) << 23 })
}

/// Returns what the scale of a block of `SIZE` stands for.
#[inline(always)]
fn value<const SIZE: usize>(code: u8) -> f32 {
    if SIZE == 32 {
        of_exponent(code)
    } else if code & 0x7f == 0x7f {
        f32::NAN
    } else {
        of_e4m3(code)
    }
}

#[inline(always)]
fn absmax(block: &[f32]) -> f32 {
    let (low, high) = extremes(block);
    max(-low, high).abs()
}

/// Returns the code of the nearest E2M1, of two as near the one towards 0, which has no sign.
#[inline(always)]
fn code(x: f32) -> u8 {
    let size = x.abs();
    let mut code = 0;
    for bound in [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0] {
        code += u8::from(size > bound);
    }
    if x < 0.0 && code > 0 { code | 8 } else { code }
}

/// Returns the squared error of a block of E2M1 with a scale.
#[inline(always)]
fn error<const SIZE: usize>(block: &[f32; SIZE], scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    let mut errors = [0f32; SIZE];
    for i in 0..SIZE {
        let x = block[i].abs();
        let off = x - scale * near_e2m1(min(x * inverse, E2M1_MOST));
        errors[i] = off * off;
    }
    fold(errors, |a, b| a + b)
}

/// Returns the scale of least squared error near that of the range.
#[inline(always)]
fn searched<const SIZE: usize>(block: &[f32; SIZE], range: u8) -> u8 {
    let (mut best, mut least) = (range, f32::INFINITY);
    // One power of two below, half of the weights would be clipped.
    let (below, above) = if SIZE == 32 { (1, 0) } else { (BELOW, ABOVE) };
    let near =
        range.saturating_sub(below).max(1)..=range.saturating_add(above).min(if SIZE == 32 { 254 } else { 0x7e });
    // The range first: another must be better.
    for code in std::iter::once(range).chain(near) {
        let scale = value::<SIZE>(code);
        let found = if scale > 0.0 { error(block, scale) } else { f32::INFINITY };
        if found < least {
            (best, least) = (code, found);
        }
    }
    best
}

#[inline(always)]
fn encode<const SIZE: usize>(row: &[f32], search: bool, codes: &mut [u8], scales: &mut [u8]) {
    let blocks = row.as_chunks::<SIZE>().0.iter().zip(codes.chunks_exact_mut(SIZE / 2)).zip(scales);
    for ((block, bytes), place) in blocks {
        let most = absmax(block);
        let ratio = most / E2M1_MOST;
        let range = if SIZE == 32 { exponent(ratio) } else { e4m3(ratio) };
        *place = if search && most > 0.0 { searched(block, range) } else { range };
        let scale = value::<SIZE>(*place);
        let mut small = [0; SIZE];
        for (x, small) in block.iter().zip(&mut small) {
            *small = if scale > 0.0 { code(x / scale) } else { 0 };
        }
        for (pair, byte) in small.as_chunks::<2>().0.iter().zip(bytes) {
            *byte = pair[0] | pair[1] << 4;
        }
    }
}

#[inline(always)]
fn decode<const SIZE: usize>(codes: &[u8], scales: &[u8], row: &mut [f32]) {
    let blocks = row.as_chunks_mut::<SIZE>().0.iter_mut().zip(codes.chunks_exact(SIZE / 2)).zip(scales);
    for ((block, codes), scale) in blocks {
        let scale = value::<SIZE>(*scale);
        for (pair, byte) in block.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *pair = [E2M1[usize::from(byte & 15)] * scale, E2M1[usize::from(byte >> 4)] * scale];
        }
    }
}

kernel! {
    /// Encodes a row in blocks of 32 or 16 E2M1, the first of two in the low half of a byte. Without `search` the largest
    /// magnitude of a block becomes at most 6, as MLX has it; with `search` the scale beside it that loses least is taken.
    ///
    /// ```
    /// let (mut codes, mut scales) = ([0; 16], [0; 1]);
    /// let mut row = [0.0; 32];
    /// (row[0], row[1]) = (6.0, -1.5);
    /// arrow_quant::kernels::mlx::encode_e2m1(&row, 32, false, &mut codes, &mut scales);
    /// assert_eq!((codes[0], scales), (0xb7, [127]));
    /// ```
    pub fn encode_e2m1(row: &[f32], block: u32, search: bool, codes: &mut [u8], scales: &mut [u8]) {
        if block == 32 {
            encode::<32>(row, search, codes, scales);
        } else {
            encode::<16>(row, search, codes, scales);
        }
    }
}

kernel! {
    /// Decodes what [`encode_e2m1`](fn@encode_e2m1) makes.
    pub fn decode_e2m1(codes: &[u8], scales: &[u8], block: u32, row: &mut [f32]) {
        if block == 32 {
            decode::<32>(codes, scales, row);
        } else {
            decode::<16>(codes, scales, row);
        }
    }
}

kernel! {
    /// Encodes a row in blocks of 32 E4M3, each with the least power of two as its scale that the largest magnitude over 448
    /// asks for.
    ///
    /// ```
    /// let (mut codes, mut scales) = ([0; 32], [0; 1]);
    /// arrow_quant::kernels::mlx::encode_e4m3(&[448.0; 32], &mut codes, &mut scales);
    /// assert_eq!((codes[0], scales), (0x7e, [127]));
    /// ```
    pub fn encode_e4m3(row: &[f32], codes: &mut [u8], scales: &mut [u8]) {
        let blocks = row.as_chunks::<32>().0.iter().zip(codes.as_chunks_mut::<32>().0).zip(scales);
        for ((block, codes), scale) in blocks {
            *scale = exponent(absmax(block) / E4M3_MOST);
            let power = of_exponent(*scale);
            for (x, code) in block.iter().zip(codes) {
                *code = e4m3(x / power);
            }
        }
    }
}

kernel! {
    /// Decodes what [`encode_e4m3`](fn@encode_e4m3) makes.
    pub fn decode_e4m3(codes: &[u8], scales: &[u8], row: &mut [f32]) {
        let blocks = row.as_chunks_mut::<32>().0.iter_mut().zip(codes.as_chunks::<32>().0).zip(scales);
        for ((block, codes), scale) in blocks {
            let scale = of_exponent(*scale);
            for (x, code) in block.iter_mut().zip(codes) {
                *x = if code & 0x7f == 0x7f { f32::NAN } else { of_e4m3(*code) } * scale;
            }
        }
    }
}
