//! The scales and zero points that a format can store: what the search chooses from.

use crate::{
    kernels::{
        lanes::max,
        params::{max_code, round_clamped_f32, zero_point_code_f32},
        scale::{scale_code_nearest, scale_code_up, scale_factor, scale_factor_moved},
    },
    types::Float,
};

/// Factors of the row's scale, and zero points, as f32.
pub(in crate::kernels) trait Grid: Copy {
    /// Returns the factor nearest to `ratio`.
    fn nearest(self, ratio: f32) -> f32;
    /// Returns the least factor of at least `ratio`, where there is one.
    fn up(self, ratio: f32) -> f32;
    /// Returns the factor about `steps` sixteenths away.
    fn moved(self, factor: f32, steps: i32) -> f32;
    /// Returns the code of the zero point nearest to `z`.
    fn zero_code<const BITS: usize>(self, z: f32) -> f32;
    /// Returns the zero point of a code, in units of weight codes.
    fn zero_point<const BITS: usize>(self, code: f32) -> f32;
}

/// The grid of [`Params`](crate::kernels::params::Params): a byte each.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct TwoLevel;

impl Grid for TwoLevel {
    #[inline(always)]
    fn nearest(self, ratio: f32) -> f32 {
        scale_factor(scale_code_nearest(ratio))
    }

    #[inline(always)]
    fn up(self, ratio: f32) -> f32 {
        scale_factor(scale_code_up(ratio))
    }

    #[inline(always)]
    fn moved(self, factor: f32, steps: i32) -> f32 {
        scale_factor_moved(factor, steps)
    }

    #[inline(always)]
    fn zero_code<const BITS: usize>(self, z: f32) -> f32 {
        zero_point_code_f32::<BITS>(z)
    }

    #[inline(always)]
    fn zero_point<const BITS: usize>(self, code: f32) -> f32 {
        // Within a rounding of what is decoded, without its division: candidates differ by more.
        code * (max_code::<BITS>() / 255.0)
    }
}

/// A scale that is a float of fewer mantissa bits, and a zero point that is a weight code.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct FloatScale {
    /// Mantissa bits of f32 that the float lacks: 16 for bfloat16, 13 for half precision, 0 for f32.
    pub dropped: u32,
    /// Its least normal number, below which it goes on in steps of `2^-10` of that; 0 where it has the exponents of f32.
    pub least: f32,
}

impl FloatScale {
    /// Returns the grid of the scales that a float holds.
    #[inline(always)]
    pub(in crate::kernels) const fn of(float: Float) -> Self {
        match float {
            Float::BF16 => Self { dropped: 16, least: 0.0 },
            Float::F16 => Self { dropped: 13, least: 1.0 / 16_384.0 },
            Float::F32 | Float::F64 => Self { dropped: 0, least: 0.0 },
        }
    }

    /// Rounds a number below the normal ones to the float's steps: the nearest, or where that is `up`, the next that is
    /// not less. Never 0.
    #[inline(always)]
    fn denormal(self, ratio: f32, up: bool) -> f32 {
        // The sum has the float's step as its last bit.
        let (step, shift) = (self.least / 1024.0, self.least * 8192.0);
        let near = (ratio + shift) - shift;
        max(if up && near < ratio { near + step } else { near }, step)
    }

    #[inline(always)]
    fn is_denormal(self, ratio: f32) -> bool {
        ratio > 0.0 && ratio < self.least
    }
}

impl Grid for FloatScale {
    #[inline(always)]
    fn nearest(self, ratio: f32) -> f32 {
        let bits = ratio.to_bits();
        let half = (1u32 << self.dropped >> 1).wrapping_sub(u32::from(self.dropped > 0));
        let odd = if self.dropped > 0 { bits >> self.dropped & 1 } else { 0 };
        let normal = f32::from_bits(bits.wrapping_add(half + odd) >> self.dropped << self.dropped);
        if self.is_denormal(ratio) { self.denormal(ratio, false) } else { normal }
    }

    #[inline(always)]
    fn up(self, ratio: f32) -> f32 {
        let below = (1u32 << self.dropped) - 1;
        let normal = f32::from_bits(ratio.to_bits().wrapping_add(below) & !below);
        if self.is_denormal(ratio) { self.denormal(ratio, true) } else { normal }
    }

    #[inline(always)]
    fn moved(self, factor: f32, steps: i32) -> f32 {
        self.nearest(factor * (1.0 + steps as f32 * 0.0625))
    }

    #[inline(always)]
    fn zero_code<const BITS: usize>(self, z: f32) -> f32 {
        round_clamped_f32(z, max_code::<BITS>())
    }

    #[inline(always)]
    fn zero_point<const BITS: usize>(self, code: f32) -> f32 {
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_float() {
        for x in [1.0f32, 1.003_906_3, 1.003_906_2, 1.011_718_8, 0.1, 3.3e7, 1e-20] {
            let bf16 = FloatScale { dropped: 16, least: 0.0 };
            assert_eq!(bf16.nearest(x), half::bf16::from_f32(x).to_f32(), "{x}");
            assert!(bf16.up(x) >= x && bf16.up(x) < x * 1.008);
            let single = FloatScale { dropped: 0, least: 0.0 };
            assert_eq!((single.nearest(x), single.up(x), bf16.up(1.0)), (x, x, 1.0));
        }
        let half = FloatScale { dropped: 13, least: half::f16::MIN_POSITIVE.to_f32() };
        for x in [1.0f32, 0.1, 0.333, 1000.6, 6.2e-5, 6.1e-5, 3.3e-6, 1.5e-7, 8.9e-8] {
            let nearest = half::f16::from_f32(x);
            assert_eq!(half.nearest(x), nearest.to_f32(), "{x}");
            let above = half::f16::from_bits(nearest.to_bits() + 1);
            assert_eq!(half.up(x), if nearest.to_f32() < x { above } else { nearest }.to_f32(), "{x}");
        }
        for x in [5e-8, 1e-8, 1e-30] {
            assert_eq!((half.nearest(x), half.up(x)), (2f32.powi(-24), 2f32.powi(-24)), "{x}");
        }
        assert_eq!((half.nearest(0.0), half.up(0.0)), (0.0, 0.0));
    }
}
