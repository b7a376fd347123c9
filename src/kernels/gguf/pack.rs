//! Codes of a super-block to the bytes of each type of 256.

/// A super-block before it is packed.
pub(super) struct SuperBlock {
    /// The f16 of the scales' unit.
    pub d: u16,
    /// The f16 of the minimums' unit; 0 for the symmetric types.
    pub dmin: u16,
    /// The code of each sub-block's scale, signed ones in two's complement.
    pub scales: [u8; 16],
    /// The code of each sub-block's minimum.
    pub mins: [u8; 16],
    /// The code of each element.
    pub codes: [u8; 256],
}

/// Packs two bits of each code: of 128 elements, four that are 32 apart share a byte.
#[inline(always)]
fn pairs(codes: &[u8; 256], shift: u32, out: &mut [u8]) {
    for half in 0..2 {
        for j in 0..32 {
            let two = |k: usize| (codes[128 * half + 32 * k + j] >> shift) & 3;
            out[32 * half + j] = two(0) | two(1) << 2 | two(2) << 4 | two(3) << 6;
        }
    }
}

/// Packs the low four bits of each code: of 64 elements, two that are 32 apart share a byte.
#[inline(always)]
fn nibbles(codes: &[u8; 256], out: &mut [u8]) {
    for chunk in 0..4 {
        for j in 0..32 {
            out[32 * chunk + j] = codes[64 * chunk + j] & 15 | codes[64 * chunk + 32 + j] << 4;
        }
    }
}

/// Packs one bit of each code: of all elements, eight that are 32 apart share a byte.
#[inline(always)]
fn single_bits(codes: &[u8; 256], shift: u32, out: &mut [u8]) {
    for j in 0..32 {
        let mut byte = 0;
        for k in 0..8 {
            byte |= ((codes[32 * k + j] >> shift) & 1) << k;
        }
        out[j] = byte;
    }
}

/// Packs eight pairs of codes of six bits in twelve bytes.
#[inline(always)]
fn six_bit_pairs(scales: &[u8; 16], mins: &[u8; 16], out: &mut [u8]) {
    for j in 0..4 {
        out[j] = scales[j] | scales[j + 4] >> 4 << 6;
        out[j + 4] = mins[j] | mins[j + 4] >> 4 << 6;
        out[j + 8] = scales[j + 4] & 15 | mins[j + 4] << 4;
    }
}

#[inline(always)]
pub(super) fn q2_k(block: &SuperBlock, out: &mut [u8; 84]) {
    for (out, (scale, min)) in out.iter_mut().zip(block.scales.iter().zip(&block.mins)) {
        *out = scale | min << 4;
    }
    pairs(&block.codes, 0, &mut out[16..80]);
    out[80..82].copy_from_slice(&block.d.to_le_bytes());
    out[82..].copy_from_slice(&block.dmin.to_le_bytes());
}

#[inline(always)]
pub(super) fn q3_k(block: &SuperBlock, out: &mut [u8; 110]) {
    single_bits(&block.codes, 2, &mut out[..32]);
    pairs(&block.codes, 0, &mut out[32..96]);
    let scale = |sub: usize| block.scales[sub].wrapping_add(32);
    for j in 0..8 {
        out[96 + j] = scale(j) & 15 | scale(j + 8) << 4;
    }
    for j in 0..4 {
        out[104 + j] = scale(j) >> 4 | scale(j + 4) >> 4 << 2 | scale(j + 8) >> 4 << 4 | scale(j + 12) >> 4 << 6;
    }
    out[108..].copy_from_slice(&block.d.to_le_bytes());
}

#[inline(always)]
pub(super) fn q4_k(block: &SuperBlock, out: &mut [u8; 144]) {
    out[..2].copy_from_slice(&block.d.to_le_bytes());
    out[2..4].copy_from_slice(&block.dmin.to_le_bytes());
    six_bit_pairs(&block.scales, &block.mins, &mut out[4..16]);
    nibbles(&block.codes, &mut out[16..]);
}

#[inline(always)]
pub(super) fn q5_k(block: &SuperBlock, out: &mut [u8; 176]) {
    out[..2].copy_from_slice(&block.d.to_le_bytes());
    out[2..4].copy_from_slice(&block.dmin.to_le_bytes());
    six_bit_pairs(&block.scales, &block.mins, &mut out[4..16]);
    single_bits(&block.codes, 4, &mut out[16..48]);
    nibbles(&block.codes, &mut out[48..]);
}

#[inline(always)]
pub(super) fn q6_k(block: &SuperBlock, out: &mut [u8; 210]) {
    for half in 0..2 {
        for j in 0..64 {
            out[64 * half + j] = block.codes[128 * half + j] & 15 | block.codes[128 * half + 64 + j] << 4;
        }
    }
    pairs(&block.codes, 4, &mut out[128..192]);
    out[192..208].copy_from_slice(&block.scales);
    out[208..].copy_from_slice(&block.d.to_le_bytes());
}
