//! Blocks to weights.
//!
//! The order of the operations is that of the reference: a scale is multiplied out first, then the code, then a minimum
//! is added or subtracted, each rounded to f32.

use super::super::{dispatch::kernel, widen::half};
use crate::types::Block;

#[inline(always)]
fn half_at(block: &[u8], at: usize) -> f32 {
    half(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// Unpacks codes of 4 bits: the low nibbles are the first half of the elements, the high ones the second.
#[inline(always)]
fn nibbles(packed: &[u8], out: &mut [f32; 32], decode: impl Fn(usize, u8) -> f32) {
    let mut codes = [0; 32];
    for j in 0..16 {
        codes[j] = packed[j] & 15;
        codes[j + 16] = packed[j] >> 4;
    }
    for (j, (out, code)) in out.iter_mut().zip(codes).enumerate() {
        *out = decode(j, code);
    }
}

#[inline(always)]
fn fifth_bit(bits: u32, element: usize) -> u8 {
    ((bits >> element) as u8 & 1) << 4
}

#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    nibbles(&block[2..], out, |_, q| (f32::from(q) - 8.0) * d);
}

#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    nibbles(&block[4..], out, |_, q| f32::from(q) * d + m);
}

#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    nibbles(&block[6..], out, |i, q| (f32::from(q | fifth_bit(high, i)) - 16.0) * d);
}

#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half_at(block, 0), half_at(block, 2));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    nibbles(&block[8..], out, |i, q| f32::from(q | fifth_bit(high, i)) * d + m);
}

#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = half_at(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(*q as i8) * d;
    }
}

/// Returns a number for each element of two sub-blocks of 16. Their codes are shifted alike; decoded by themselves, the
/// compiler takes one element of all sub-blocks at a time, and scatters.
#[inline(always)]
fn both([first, second]: [f32; 2]) -> [f32; 32] {
    let mut lanes = [first; 32];
    lanes[16..].fill(second);
    lanes
}

#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for (pair, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let of_both = [block[2 * pair], block[2 * pair + 1]];
        let scale = both(of_both.map(|code| d * f32::from(code & 15)));
        let min = both(of_both.map(|code| dmin * f32::from(code >> 4)));
        let (codes, shift) = (&block[16 + pair / 4 * 32..][..32], pair % 4 * 2);
        for i in 0..32 {
            out[i] = scale[i] * f32::from((codes[i] >> shift) & 3) - min[i];
        }
    }
}

/// Returns scale code `sub` of a `Q3_K` block, -32 to 31.
#[inline(always)]
fn q3_k_scale(packed: &[u8], sub: usize) -> i8 {
    let low = (packed[sub % 8] >> (sub / 8 * 4)) & 15;
    let high = (packed[8 + sub % 4] >> (sub / 4 * 2)) & 3;
    (low | high << 4) as i8 - 32
}

#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let d = half_at(block, 108);
    for (pair, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = both([2 * pair, 2 * pair + 1].map(|sub| d * f32::from(q3_k_scale(&block[96..108], sub))));
        let (low, high, shift) = (&block[32 + pair / 4 * 32..][..32], &block[..32], pair % 4 * 2);
        for i in 0..32 {
            let code = ((low[i] >> shift) & 3) | ((high[i] >> pair) & 1) << 2;
            out[i] = scale[i] * (f32::from(code) - 4.0);
        }
    }
}

/// Returns scale and minimum code `sub` of a `Q4_K` or `Q5_K` block, 0 to 63.
#[inline(always)]
fn six_bit_pair(packed: &[u8], sub: usize) -> (u8, u8) {
    if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let both = packed[sub + 4];
        (both & 15 | packed[sub - 4] >> 6 << 4, both >> 4 | packed[sub] >> 6 << 4)
    }
}

#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = six_bit_pair(&block[4..16], sub);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let start = 16 + sub / 2 * 32;
        for (out, q) in out.iter_mut().zip(&block[start..start + 32]) {
            *out = scale * f32::from((q >> (sub % 2 * 4)) & 15) - min;
        }
    }
}

#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = six_bit_pair(&block[4..16], sub);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let low = &block[48 + sub / 2 * 32..][..32];
        for ((out, low), high) in out.iter_mut().zip(low).zip(&block[16..48]) {
            let code = ((low >> (sub % 2 * 4)) & 15) | ((high >> sub) & 1) << 4;
            *out = scale * f32::from(code) - min;
        }
    }
}

#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = half_at(block, 208);
    for (pair, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scale = both([2 * pair, 2 * pair + 1].map(|sub| d * f32::from(block[192 + sub] as i8)));
        // Four pairs are a half, and share 32 bytes of high bits.
        let (half, place) = (pair / 4, pair % 4);
        let (low, high) = (&block[64 * half + place % 2 * 32..][..32], &block[128 + 32 * half..][..32]);
        for i in 0..32 {
            let code = ((low[i] >> (place / 2 * 4)) & 15) | ((high[i] >> (place * 2)) & 3) << 4;
            out[i] = scale[i] * (f32::from(code) - 32.0);
        }
    }
}

kernel! {
    /// Decodes blocks to f32: the bits of llama.cpp's `NumPy` reference (`gguf.quants.dequantize`).
    ///
    /// `out` takes [`Block::weights`] numbers for each block; what is no whole block is left alone.
    ///
    /// ```
    /// use arrow_quant::{kernels::gguf::decode_blocks, types::Block};
    ///
    /// let mut block = [0x98; 18];
    /// block[..2].copy_from_slice(&[0x00, 0x38]); // d is 0.5
    /// let mut out = [0.0; 32];
    /// decode_blocks(Block::Q4_0, &block, &mut out);
    /// assert_eq!((out[0], out[31]), (0.0, 0.5));
    /// ```
    pub fn decode_blocks(kind: Block, blocks: &[u8], out: &mut [f32]) {
        match kind {
            Block::Q4_0 => each!(q4_0, blocks, out),
            Block::Q4_1 => each!(q4_1, blocks, out),
            Block::Q5_0 => each!(q5_0, blocks, out),
            Block::Q5_1 => each!(q5_1, blocks, out),
            Block::Q8_0 => each!(q8_0, blocks, out),
            Block::Q2_K => each!(q2_k, blocks, out),
            Block::Q3_K => each!(q3_k, blocks, out),
            Block::Q4_K => each!(q4_k, blocks, out),
            Block::Q5_K => each!(q5_k, blocks, out),
            Block::Q6_K => each!(q6_k, blocks, out),
        }
    }
}
