//! The scales and zero points that a format can store: what the search chooses from.

use crate::kernels::{
    params::{max_code, round_clamped_f32, zero_point_code_f32},
    scale::{scale_code_nearest, scale_code_up, scale_factor, scale_factor_moved},
};

/// Factors of the row's scale, and zero points, as f32.
pub(in crate::kernels) trait Grid: Copy {
    /// The factor nearest to `ratio`.
    fn nearest(self, ratio: f32) -> f32;
    /// The least factor of at least `ratio`, where there is one.
    fn up(self, ratio: f32) -> f32;
    /// The factor about `steps` sixteenths away.
    fn moved(self, factor: f32, steps: i32) -> f32;
    /// The code of the zero point nearest to `z`.
    fn zero_code<const BITS: usize>(self, z: f32) -> f32;
    /// The zero point of a code, in units of weight codes.
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
}

impl Grid for FloatScale {
    #[inline(always)]
    fn nearest(self, ratio: f32) -> f32 {
        let bits = ratio.to_bits();
        let half = (1u32 << self.dropped >> 1).wrapping_sub(u32::from(self.dropped > 0));
        let odd = if self.dropped > 0 { bits >> self.dropped & 1 } else { 0 };
        f32::from_bits(bits.wrapping_add(half + odd) >> self.dropped << self.dropped)
    }

    #[inline(always)]
    fn up(self, ratio: f32) -> f32 {
        let below = (1u32 << self.dropped) - 1;
        f32::from_bits(ratio.to_bits().wrapping_add(below) & !below)
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
            let bf16 = FloatScale { dropped: 16 };
            assert_eq!(bf16.nearest(x), half::bf16::from_f32(x).to_f32(), "{x}");
            assert!(bf16.up(x) >= x && bf16.up(x) < x * 1.008);
            assert_eq!(FloatScale { dropped: 0 }.nearest(x), x);
            assert_eq!(FloatScale { dropped: 0 }.up(x), x);
        }
        for x in [1.0f32, 0.1, 0.333, 1000.6] {
            assert_eq!(FloatScale { dropped: 13 }.nearest(x), half::f16::from_f32(x).to_f32(), "{x}");
        }
        assert_eq!(FloatScale { dropped: 16 }.up(1.0), 1.0);
    }
}
