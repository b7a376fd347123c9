//! Parameters from the range of each group.

use super::{
    dispatch::kernel,
    lanes::{each, each_pair, fold, max},
    params::{for_bits, max_code, middle, reciprocal, round_clamped_f32, zero_point, zero_point_code},
    range::{covering_scale, group_range},
    scale::{scale_code_nearest, scale_code_up, scale_factor},
};

/// A scale code and a zero-point code.
pub(super) type Codes = (u8, u8);

/// The zero-point code that puts the middle of the range in the middle of the codes: slack, or clipping, is shared
/// by both ends.
#[inline(always)]
pub(super) fn centred<const BITS: usize>(low: f32, high: f32, scale: f32) -> u8 {
    zero_point_code::<BITS>((max_code::<BITS>() - (low + high) * reciprocal(scale)) * 0.5)
}

/// The zero point of a code, or of symmetric codes.
#[inline(always)]
pub(super) fn zero<const BITS: usize>(code: u8, symmetric: bool) -> f32 {
    if symmetric { middle::<BITS>() } else { zero_point::<BITS>(code) }
}

/// The squared error of a group under each of two pairs of scale and zero point, `importance` as weights.
#[inline(always)]
fn squared_errors<const BITS: usize>(
    group: &[f32],
    importance: Option<&[f32]>,
    [(s0, z0), (s1, z1)]: [(f32, f32); 2],
) -> (f32, f32) {
    const LANES: usize = 16;
    let (i0, i1) = (reciprocal(s0), reciprocal(s1));
    let (mut e0, mut e1) = ([0f32; LANES], [0f32; LANES]);
    let mut add = |lane: usize, x: f32, weight: f32| {
        let d0 = s0 * (round_clamped_f32(x * i0 + z0, max_code::<BITS>()) - z0) - x;
        let d1 = s1 * (round_clamped_f32(x * i1 + z1, max_code::<BITS>()) - z1) - x;
        e0[lane] += d0 * d0 * weight;
        e1[lane] += d1 * d1 * weight;
    };
    match importance {
        None => each::<_, LANES>(group, |lane, x| add(lane, x, 1.0)),
        Some(weights) => each_pair::<_, LANES>(group, weights, add),
    }
    let sum = |lanes| fold(lanes, |a, b| a + b);
    (sum(e0), sum(e1))
}

/// The codes of a group: scale rounded up, or to the nearest where that has the smaller error.
#[inline(always)]
fn group_codes<const BITS: usize>(
    group: &[f32],
    importance: Option<&[f32]>,
    (low, high): (f32, f32),
    row_scale: f32,
    symmetric: bool,
    clip: bool,
) -> Codes {
    let ratio = if row_scale > 0.0 { covering_scale::<BITS>(low, high, symmetric) / row_scale } else { 0.0 };
    let candidate = |code: u8| {
        let scale = row_scale * scale_factor(code);
        let zero_code = centred::<BITS>(low, high, scale);
        ((code, zero_code), (scale, zero::<BITS>(zero_code, symmetric)))
    };
    let (up, up_decoded) = candidate(scale_code_up(ratio));
    let nearest = scale_code_nearest(ratio);
    if !clip || nearest == up.0 {
        return up;
    }
    let (nearest, nearest_decoded) = candidate(nearest);
    let (up_error, nearest_error) = squared_errors::<BITS>(group, importance, [up_decoded, nearest_decoded]);
    if nearest_error < up_error { nearest } else { up }
}

#[inline(always)]
pub(super) fn minmax_row<const BITS: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    clip: bool,
    scratch: &mut [f32],
    scales: &mut [u8],
    mut zero_points: Option<&mut [u8]>,
) -> f32 {
    let group_size = group_size.max(1);
    let symmetric = zero_points.is_none();
    let (lows, highs) = scratch.split_at_mut(scratch.len() / 2);
    let mut row_scale = 0.0;
    for ((group, low), high) in weights.chunks(group_size).zip(&mut *lows).zip(&mut *highs) {
        (*low, *high) = group_range(group);
        row_scale = max(covering_scale::<BITS>(*low, *high, symmetric), row_scale);
    }
    let ranges = lows.iter().zip(&*highs).zip(scales);
    for (g, (group, ((low, high), scale))) in weights.chunks(group_size).zip(ranges).enumerate() {
        let importance = importance.map(|weights| &weights[g * group_size..][..group.len()]);
        let (code, zero_code) = group_codes::<BITS>(group, importance, (*low, *high), row_scale, symmetric, clip);
        *scale = code;
        if let Some(zero_point) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
            *zero_point = zero_code;
        }
    }
    row_scale
}

kernel! {
    /// Fills the scale codes and zero-point codes of a row from the range of each group, zero included, and returns
    /// the row's scale: that of the group with the widest range, so that its code is 240, `m = 1`.
    ///
    /// At 8 bits no weight is clipped: the scale code is rounded up and the slack is shared by both ends. At fewer bits
    /// the nearest code is taken instead where that leaves a smaller squared error.
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
            minmax_row::<BITS>(weights, None, group_size, BITS < 8, scratch, scales, zero_points)
        })
    }
}
