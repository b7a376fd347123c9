//! f32 to stored floats, rounded to nearest, ties to even. Output is bytes, little-endian.

use crate::kernels::dispatch::kernel;

kernel! {
    /// Narrows to bfloat16. Infinities stay, NaN stays NaN, and what is too large becomes infinite.
    ///
    /// ```
    /// let mut out = [0; 4];
    /// arrow_quant::kernels::narrow::narrow_bf16(&[1.0, -2.5], &mut out);
    /// assert_eq!(out, [0x80, 0x3f, 0x20, 0xc0]);
    /// ```
    pub fn narrow_bf16(weights: &[f32], out: &mut [u8]) {
        for (x, out) in weights.iter().zip(out.as_chunks_mut().0) {
            let bits = x.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            // Rounding could carry a NaN's payload away; the quiet bit keeps it one.
            let upper = if x.is_nan() { bits >> 16 | 0x40 } else { rounded };
            *out = (upper as u16).to_le_bytes();
        }
    }
}

/// Returns the bits of the nearest f16, ties to even.
#[inline(always)]
pub(in crate::kernels) fn half(x: f32) -> u16 {
    let bits = x.to_bits();
    let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    // Normal halves: the exponent rebiased, the mantissa rounded; a carry goes on into the exponent, up to infinity.
    let rebiased = magnitude.wrapping_sub(112 << 23);
    let normal = rebiased.wrapping_add(0x0fff + (rebiased >> 13 & 1)) >> 13;
    // Denormal halves: adding 1/2 leaves multiples of 2^-24 in the low bits of the mantissa, rounded by the addition.
    let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if magnitude < 113 << 23 { denormal } else { normal };
    let large = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    sign | if magnitude >= 143 << 23 { large } else { finite as u16 }
}

kernel! {
    /// Narrows to IEEE half precision. Infinities stay, NaN stays NaN, and what rounds to more than 65504 becomes infinite.
    ///
    /// ```
    /// let mut out = [0; 4];
    /// arrow_quant::kernels::narrow::narrow_f16(&[1.0, -(2f32.powi(-24))], &mut out);
    /// assert_eq!(out, [0x00, 0x3c, 0x01, 0x80]);
    /// ```
    pub fn narrow_f16(weights: &[f32], out: &mut [u8]) {
        for (x, out) in weights.iter().zip(out.as_chunks_mut().0) {
            *out = half(*x).to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples::Random};

    /// Returns every half and bfloat16 as f32, what lies just beside and half-way between, and numbers at random.
    fn samples() -> Vec<f32> {
        let mut samples = Vec::new();
        for bits in 0..=u16::MAX {
            for x in [half::f16::from_bits(bits).to_f32(), half::bf16::from_bits(bits).to_f32()] {
                let x: f32 = x;
                let middle = |next: f32| f32::from_bits((x.to_bits() >> 1) + (next.to_bits() >> 1));
                let f16_next = half::f16::from_bits(bits.wrapping_add(1)).to_f32();
                samples.extend([x, x.next_up(), x.next_down(), middle(f16_next), f32::from_bits(x.to_bits() | 0x8000)]);
            }
        }
        let mut random = Random::new(5);
        samples.extend((0..100_000).map(|_| f32::from_bits((random.bits() >> 32) as u32)));
        samples
    }

    #[test]
    fn every_target_rounds_as_the_half_crate_does() {
        let samples = samples();
        let same = |x: f32, ours: [u8; 2], theirs: u16, is_nan: bool, ours_is_nan: bool| {
            assert!(u16::from_le_bytes(ours) == theirs || (is_nan && ours_is_nan), "{x:e} {:#x}", x.to_bits());
        };
        for target in Target::available() {
            let (mut f16, mut bf16) = (vec![0; 2 * samples.len()], vec![0; 2 * samples.len()]);
            narrow_f16::on(target, &samples, &mut f16);
            narrow_bf16::on(target, &samples, &mut bf16);
            for ((x, ours), bf) in samples.iter().zip(f16.as_chunks::<2>().0).zip(bf16.as_chunks::<2>().0) {
                let is_nan = half::f16::from_le_bytes(*ours).is_nan();
                same(*x, *ours, half::f16::from_f32(*x).to_bits(), x.is_nan(), is_nan);
                same(*x, *bf, half::bf16::from_f32(*x).to_bits(), x.is_nan(), half::bf16::from_le_bytes(*bf).is_nan());
            }
        }
    }
}
