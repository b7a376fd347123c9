//! Weights to blocks of 32: the bits of llama.cpp's `NumPy` reference (`gguf.quants.quantize`).
//!
//! The codes are made with the scale before it is rounded to f16, as the reference does. Where f16 has
//! fewer than 7 bits left, the reference loses decibels and writes zeros at last. There the scale is rounded away from 0, and
//! codes are made with the stored scale.

use super::{
    super::{
        lanes::{max, min},
        narrow::half,
    },
    super_block::{LEAST_NORMAL, as_half, covering_half},
};

/// Below it an f16 has fewer than 7 bits.
const COARSE: f32 = LEAST_NORMAL / 8.0;

/// Returns a scale as codes are made with it.
#[inline(always)]
fn scale(d: f32) -> f32 {
    if d.abs() < COARSE { covering_half(d) } else { d }
}

/// Returns `1 / d`; 0 where `d` is 0.
#[inline(always)]
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// Returns the element of largest magnitude, the first where several are.
#[inline(always)]
fn extreme(x: &[f32; 32]) -> f32 {
    let mut most = 0.0;
    for x in x {
        most = max(x.abs(), most);
    }
    let mut found = 0.0;
    for x in x.iter().rev() {
        found = if x.abs() == most { *x } else { found };
    }
    found
}

#[inline(always)]
fn range(x: &[f32; 32]) -> (f32, f32) {
    let (mut low, mut high) = (x[0], x[0]);
    for x in x {
        low = min(*x, low);
        high = max(*x, high);
    }
    (low, high)
}

/// Returns a number that is not negative, cut to its integer, at most `most`.
#[inline(always)]
fn cut(x: f32, most: f32) -> u8 {
    min(x, most) as u8
}

/// Packs two codes to a byte: the first half of the elements low, the second high.
#[inline(always)]
fn nibbles(codes: &[u8; 32], out: &mut [u8]) {
    for j in 0..16 {
        out[j] = codes[j] & 15 | codes[j + 16] << 4;
    }
}

/// Returns the fifth bits of 32 codes.
#[inline(always)]
fn fifth_bits(codes: &[u8; 32], out: &mut [u8]) {
    let mut bits = 0u32;
    for (i, code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4 & 1) << i;
    }
    out.copy_from_slice(&bits.to_le_bytes());
}

/// Makes symmetric codes of `2 * MIDDLE` levels, and their scale: the extreme becomes code 0.
#[inline(always)]
fn symmetric<const MIDDLE: u8>(x: &[f32; 32]) -> (f32, [u8; 32]) {
    let middle = f32::from(MIDDLE);
    let d = scale(extreme(x) / -middle);
    let inverse = inverse(d);
    (d, x.map(|x| cut(x * inverse + (middle + 0.5), 2.0 * middle - 1.0)))
}

/// Codes from 0 to `MOST`, their scale, and the minimum.
#[inline(always)]
fn affine<const MOST: u8>(x: &[f32; 32]) -> (f32, f32, [u8; 32]) {
    let most = f32::from(MOST);
    let (mut low, high) = range(x);
    if max(high, -low) < most * COARSE {
        // The minimum as stored, rounded down.
        let near = as_half(low);
        low = if near > low { near - LEAST_NORMAL / 1024.0 } else { near };
    }
    let d = scale((high - low) / most);
    let inverse = inverse(d);
    (d, low, x.map(|x| cut((x - low) * inverse + 0.5, most)))
}

#[inline(always)]
pub(super) fn q4_0(x: &[f32; 32], out: &mut [u8; 18]) {
    let (d, codes) = symmetric::<8>(x);
    out[..2].copy_from_slice(&half(d).to_le_bytes());
    nibbles(&codes, &mut out[2..]);
}

#[inline(always)]
pub(super) fn q4_1(x: &[f32; 32], out: &mut [u8; 20]) {
    let (d, m, codes) = affine::<15>(x);
    out[..2].copy_from_slice(&half(d).to_le_bytes());
    out[2..4].copy_from_slice(&half(m).to_le_bytes());
    nibbles(&codes, &mut out[4..]);
}

#[inline(always)]
pub(super) fn q5_0(x: &[f32; 32], out: &mut [u8; 22]) {
    let (d, codes) = symmetric::<16>(x);
    out[..2].copy_from_slice(&half(d).to_le_bytes());
    fifth_bits(&codes, &mut out[2..6]);
    nibbles(&codes, &mut out[6..]);
}

#[inline(always)]
pub(super) fn q5_1(x: &[f32; 32], out: &mut [u8; 24]) {
    let (d, m, codes) = affine::<31>(x);
    out[..2].copy_from_slice(&half(d).to_le_bytes());
    out[2..4].copy_from_slice(&half(m).to_le_bytes());
    fifth_bits(&codes, &mut out[4..8]);
    nibbles(&codes, &mut out[8..]);
}

#[inline(always)]
pub(super) fn q8_0(x: &[f32; 32], out: &mut [u8; 34]) {
    let mut most = 0.0;
    for x in x {
        most = max(x.abs(), most);
    }
    let d = scale(most / 127.0);
    let inverse = inverse(d);
    out[..2].copy_from_slice(&half(d).to_le_bytes());
    for (out, x) in out[2..].iter_mut().zip(x) {
        let magnitude = (x * inverse).abs();
        // Half away from zero: the integer, and one more from one half on.
        let whole = magnitude as u8;
        let rounded = whole + u8::from(magnitude - f32::from(whole) >= 0.5);
        *out = if *x < 0.0 { rounded.wrapping_neg() } else { rounded };
    }
}
