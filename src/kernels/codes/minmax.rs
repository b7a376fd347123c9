//! Parameters from the range of each group.

use super::{
    params::{for_bits, max_code, middle, reciprocal, zero_point, zero_point_code},
    range::{covering_scale, ranges},
    scale::{scale_code_nearest, scale_code_up, scale_factor},
};
use crate::kernels::{dispatch::kernel, lanes::max};

/// Returns the zero-point code that puts the middle of the range in the middle of the codes: slack, or clipping, is
/// shared by both ends.
#[inline(always)]
pub(in crate::kernels) fn centred<const BITS: usize>(low: f32, high: f32, scale: f32) -> u8 {
    zero_point_code::<BITS>(midpoint::<BITS>(low, high, scale))
}

/// Returns the zero point, in units of codes, that puts the middle of the range in the middle of the codes.
#[inline(always)]
pub(in crate::kernels) fn midpoint<const BITS: usize>(low: f32, high: f32, scale: f32) -> f32 {
    (max_code::<BITS>() - (low + high) * reciprocal(scale)) * 0.5
}

/// Returns the zero point of a code, or of symmetric codes.
#[inline(always)]
pub(in crate::kernels) fn zero<const BITS: usize>(code: u8, symmetric: bool) -> f32 {
    if symmetric { middle::<BITS>() } else { zero_point::<BITS>(code) }
}

/// Returns the scale code of a group: rounded up, or to the nearest where that promises the smaller error.
///
/// Rounding leaves `s^2 / 12` on each of `n` weights; a scale that falls short by `d` clips `d * codes / 2` off the
/// weight at either end. Comparing the two costs nothing beside measuring both on the weights, and loses 0.03 dB at 4 bits, 0.004 dB at 2.
#[inline(always)]
fn scale_code<const BITS: usize>(ratio: f32, n: f32, clip: bool) -> u8 {
    let (up, nearest) = (scale_code_up(ratio), scale_code_nearest(ratio));
    let (s_up, s_nearest) = (scale_factor(up), scale_factor(nearest));
    let clipped = (ratio - s_nearest) * max_code::<BITS>();
    let nearest_is_better = n * (s_nearest * s_nearest) + 6.0 * (clipped * clipped) < n * (s_up * s_up);
    if clip && nearest_is_better { nearest } else { up }
}

/// Finds the largest of the scales that just cover the groups, and the groups' ranges, in the two halves of `scratch`.
#[inline(always)]
pub(in crate::kernels) fn covering_row_scale<'s, const BITS: usize>(
    weights: &[f32],
    group_size: usize,
    symmetric: bool,
    scratch: &'s mut [f32],
) -> (f32, &'s [f32], &'s [f32]) {
    let (lows, highs) = scratch.split_at_mut(scratch.len() / 2);
    let groups = weights.len().div_ceil(group_size.max(1)).min(lows.len());
    let (lows, highs) = (&mut lows[..groups], &mut highs[..groups]);
    ranges(weights, group_size, lows, highs);
    let mut row_scale = 0.0;
    for (low, high) in lows.iter().zip(&*highs) {
        row_scale = max(covering_scale::<BITS>(*low, *high, symmetric), row_scale);
    }
    (row_scale, lows, highs)
}

#[inline(always)]
pub(in crate::kernels) fn minmax_row<const BITS: usize>(
    weights: &[f32],
    group_size: usize,
    clip: bool,
    scratch: &mut [f32],
    scales: &mut [u8],
    zero_points: Option<&mut [u8]>,
) -> f32 {
    let symmetric = zero_points.is_none();
    let (row_scale, lows, highs) = covering_row_scale::<BITS>(weights, group_size, symmetric, scratch);
    let n = group_size.min(weights.len()) as f32;
    // A row of zeros has ratios of 0 / 1.
    let divisor = if row_scale > 0.0 { row_scale } else { 1.0 };
    for ((low, high), scale) in lows.iter().zip(highs).zip(&mut *scales) {
        *scale = scale_code::<BITS>(covering_scale::<BITS>(*low, *high, symmetric) / divisor, n, clip);
    }
    if let Some(zero_points) = zero_points {
        for (((low, high), scale), zero_point) in lows.iter().zip(highs).zip(scales).zip(zero_points) {
            *zero_point = centred::<BITS>(*low, *high, row_scale * scale_factor(*scale));
        }
    }
    row_scale
}

kernel! {
    /// Fills the scale codes and zero-point codes of a row from the range of each group, zero included, and returns
    /// the row's scale: that of the group with the widest range, so that its code is 240, `m = 1`.
    ///
    /// At 8 bits no weight is clipped: the scale code is rounded up and the slack is shared by both ends. At fewer bits
    /// the nearest code is taken instead where that promises a smaller squared error.
    ///
    /// `weights` are finite and of moderate size ([`extreme`](crate::kernels::extreme)); `bits` as in
    /// [`Params`](crate::kernels::params::Params). `scratch` has two places per group, `scales` and `zero_points` one;
    /// without `zero_points` the codes are symmetric. A row of zeros has scale 0.
    ///
    /// ```
    /// let (mut scratch, mut scales, mut zero_points) = ([0.0; 4], [0; 2], [0; 2]);
    /// let weights = [-1.0, 2.0, 0.0, 1.5];
    /// let row_scale =
    ///     arrow_quant::kernels::minmax::minmax(&weights, 2, 2, &mut scratch, &mut scales, Some(&mut zero_points));
    /// assert_eq!((row_scale, scales, zero_points), (1.0, [240, 224], [85, 0]));
    /// ```
    pub fn minmax(
        weights: &[f32],
        bits: u8,
        group_size: usize,
        scratch: &mut [f32],
        scales: &mut [u8],
        zero_points: Option<&mut [u8]>,
    ) -> f32 {
        for_bits!(bits, BITS => {
            minmax_row::<BITS>(weights, group_size, BITS < 8, scratch, scales, zero_points)
        })
    }
}
