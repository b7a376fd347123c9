//! The decode parameters of a row, and the two formulas that every kernel shares.

use super::scale::scale_factor;
use crate::kernels::lanes;

/// Runs `$body` with the constant `$BITS` standing for `$bits`.
macro_rules! for_bits {
    ($bits:expr, $BITS:ident => $body:expr) => {
        match $bits {
            2 => {
                const $BITS: usize = 2;
                $body
            }
            3 => {
                const $BITS: usize = 3;
                $body
            }
            4 => {
                const $BITS: usize = 4;
                $body
            }
            _ => {
                const $BITS: usize = 8;
                $body
            }
        }
    };
}
pub(in crate::kernels) use for_bits;

/// The parameters that decode the codes of a row.
#[derive(Debug, Clone, Copy)]
pub struct Params<'a> {
    /// 2, 3 or 4; every other value is taken as 8.
    pub bits: u8,
    /// Weights per group; the last group may be short.
    pub group_size: usize,
    /// The scale that all scale codes are relative to.
    pub row_scale: f32,
    /// One scale code per group.
    pub scales: &'a [u8],
    /// One zero-point code per group; `None`: symmetric, the zero point is `2^(bits-1)`.
    pub zero_points: Option<&'a [u8]>,
}

impl Params<'_> {
    /// Returns scale and zero point of a group; a scale of 0 where the parameters end early.
    #[inline(always)]
    pub(in crate::kernels) fn group<const BITS: usize>(&self, group: usize) -> (f32, f32) {
        let scale = self.scales.get(group).map_or(0.0, |code| self.row_scale * scale_factor(*code));
        let zero_point = match self.zero_points {
            None => middle::<BITS>(),
            Some(codes) => codes.get(group).map_or(0.0, |code| zero_point::<BITS>(*code)),
        };
        (scale, zero_point)
    }

    /// Does the same as [`Self::group`] for the groups from `first` on, which all exist, `zeros.len()` at a time: a division for each
    /// group, one by one, takes as long as decoding its 32 weights.
    #[inline(always)]
    pub(in crate::kernels) fn groups<const BITS: usize>(&self, first: usize, scales: &mut [f32], zeros: &mut [f32]) {
        let codes = self.scales.get(first..).unwrap_or_default();
        for (scale, code) in scales.iter_mut().zip(codes) {
            *scale = self.row_scale * scale_factor(*code);
        }
        match self.zero_points {
            None => zeros.fill(middle::<BITS>()),
            Some(codes) => {
                for (zero, code) in zeros.iter_mut().zip(codes.get(first..).unwrap_or_default()) {
                    *zero = zero_point::<BITS>(*code);
                }
            }
        }
    }

    /// Returns true if whole groups can be taken at a time: they fill vectors, and there is a parameter for each of a row of
    /// `length` weights.
    #[inline(always)]
    pub(in crate::kernels) fn is_regular(&self, length: usize) -> bool {
        let groups = length.div_ceil(self.group_size.max(1));
        self.group_size.is_multiple_of(32)
            && (32..=AT_A_TIME).contains(&self.group_size)
            && self.scales.len() >= groups
            && self.zero_points.is_none_or(|codes| codes.len() >= groups)
    }
}

/// Weights of which the codes are staged at a time, where groups are regular.
pub(in crate::kernels) const AT_A_TIME: usize = 512;
const _: () = assert!(AT_A_TIME.is_multiple_of(32));

/// Groups that these have at most.
pub(in crate::kernels) const GROUPS_AT_A_TIME: usize = AT_A_TIME / 32;

/// Returns the zero point of a group, in units of codes: `2^(bits-1)` for symmetric codes.
pub fn zero_point_of(params: &Params, group: usize) -> f32 {
    for_bits!(params.bits, BITS => params.group::<BITS>(group).1)
}

/// Returns the largest code, `2^bits - 1`, as f32.
#[inline(always)]
pub(in crate::kernels) const fn max_code<const BITS: usize>() -> f32 {
    ((1u32 << BITS) - 1) as f32
}

/// Returns the zero point of symmetric codes, `2^(bits-1)`.
#[inline(always)]
pub(in crate::kernels) const fn middle<const BITS: usize>() -> f32 {
    (1u32 << (BITS - 1)) as f32
}

/// Returns the zero point that a code stands for, in units of weight codes.
#[inline(always)]
pub(in crate::kernels) fn zero_point<const BITS: usize>(code: u8) -> f32 {
    f32::from(code) * max_code::<BITS>() / 255.0
}

/// Does the same as [`zero_point_code`], the code as f32.
#[inline(always)]
pub(in crate::kernels) fn zero_point_code_f32<const BITS: usize>(z: f32) -> f32 {
    round_clamped_f32(z * (255.0 / max_code::<BITS>()), 255.0)
}

/// Returns the zero-point code nearest to `z`, ties to even.
#[inline(always)]
pub(in crate::kernels) fn zero_point_code<const BITS: usize>(z: f32) -> u8 {
    round_clamped(z * (255.0 / max_code::<BITS>()), 255.0)
}

/// Added to a number in `0..2^22`, this leaves its nearest integer, ties to even, in the low bits.
const ROUND: f32 = 8_388_608.0;

/// Returns `x` clamped to `0..=most` and rounded, ties to even; 0 for NaN. `most` is at most 255.
///
/// The adding of `2^23` rounds on every CPU, where `round_ties_even` is a function call on the baseline.
#[inline(always)]
pub(in crate::kernels) fn round_clamped(x: f32, most: f32) -> u8 {
    (lanes::min(lanes::max(x, 0.0), most) + ROUND).to_bits() as u8
}

/// Does the same as [`round_clamped`], the result as f32.
#[inline(always)]
pub(in crate::kernels) fn round_clamped_f32(x: f32, most: f32) -> f32 {
    (lanes::min(lanes::max(x, 0.0), most) + ROUND) - ROUND
}

/// Returns `1 / scale`, or as near as it comes to it without an infinity, so that a weight of 0 keeps the code `z`.
#[inline(always)]
pub(in crate::kernels) fn reciprocal(scale: f32) -> f32 {
    if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { f32::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_even_and_clamped() {
        for (x, want) in [(-1.0, 0), (0.5, 0), (1.5, 2), (2.5, 2), (2.500_000_2, 3), (14.6, 15), (99.0, 15)] {
            assert_eq!(round_clamped(x, 15.0), want, "{x}");
            assert_eq!(round_clamped_f32(x, 15.0), f32::from(want), "{x}");
        }
        assert_eq!(round_clamped(f32::NAN, 255.0), 0);
        assert_eq!(round_clamped(f32::INFINITY, 255.0), 255);
    }

    #[test]
    fn zero_points_encode_to_themselves_and_reach_both_ends() {
        for code in 0..=255 {
            assert_eq!(zero_point_code::<2>(zero_point::<2>(code)), code);
            assert_eq!(zero_point_code::<3>(zero_point::<3>(code)), code);
            assert_eq!(zero_point_code::<4>(zero_point::<4>(code)), code);
            assert_eq!(zero_point::<8>(code), f32::from(code));
        }
        assert_eq!([zero_point::<2>(255), zero_point::<3>(255), zero_point::<4>(255)], [3.0, 7.0, 15.0]);
    }

    #[test]
    fn the_reciprocal_is_finite_whatever_the_scale() {
        for scale in [0.0, 1e-45, f32::MIN_POSITIVE, 1.0, f32::MAX, f32::INFINITY, f32::NAN] {
            assert!(reciprocal(scale).is_finite(), "{scale}");
        }
    }
}
