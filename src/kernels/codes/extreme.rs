//! Rows near the ends of f32: brought to a moderate size by an exact power of two.
//!
//! Between `2^-30` and `2^30`, where every real row lies, the squares, ranges and reciprocals of the kernels neither
//! overflow nor vanish. A row outside is multiplied by a power of two first; its parameters are divided by it.

use super::{
    minmax::{centred, zero},
    params::{Params, for_bits, max_code, reciprocal, round_clamped_f32},
    range::{covering_scale, group_range},
    scale::{scale_code_up, scale_factor},
};

const MODERATE: std::ops::RangeInclusive<f32> = 1.0 / 1_073_741_824.0..=1_073_741_824.0;

/// `2^-100`: below it the scales of a row may be denormal, so that they are rounded to the few values there are.
const TINY: f32 = 7.888_609e-31;

/// Returns the power of two that brings a row of this largest magnitude to a moderate size; 1 for nearly every row.
///
/// ```
/// use arrow_quant::kernels::extreme::power;
///
/// assert_eq!([power(0.0), power(0.1), power(2f32.powi(-40)), power(f32::MAX)], [1.0, 1.0, 2f32.powi(40), 2f32.powi(-126)]);
/// ```
pub fn power(absmax: f32) -> f32 {
    if absmax == 0.0 || MODERATE.contains(&absmax) {
        return 1.0;
    }
    let exponent = (absmax.to_bits() >> 23 & 0xff) as i32 - 127;
    f32::from_bits((((-exponent).clamp(-126, 127) + 127) as u32) << 23)
}

/// Writes `row * power` into `out`.
pub fn rescale(row: &[f32], power: f32, out: &mut [f32]) {
    for (x, out) in row.iter().zip(out) {
        *out = x * power;
    }
}

/// Returns true if a row that is multiplied by `power` is so small that [`tiny_params`] has to find its parameters.
pub fn is_tiny(power: f32) -> bool {
    power > 1.0 / TINY
}

/// Fills the parameters of a tiny row: every scale is rounded up to what f32 can hold, so that nothing is clipped.
/// Returns the row's scale, at its true size.
pub fn tiny_params(
    rescaled: &[f32],
    power: f32,
    bits: u8,
    group_size: usize,
    scales: &mut [u8],
    mut zero_points: Option<&mut [u8]>,
) -> f32 {
    for_bits!(bits, BITS => {
        let group_size = group_size.max(1);
        let symmetric = zero_points.is_none();
        let needed = |group: &[f32]| {
            let (low, high) = group_range(group);
            (low, high, covering_scale::<BITS>(low, high, symmetric))
        };
        let widest = rescaled.chunks(group_size).map(|group| needed(group).2).fold(0.0, f32::max);
        let mut row_scale = widest / power;
        if row_scale * power < widest {
            row_scale = row_scale.next_up();
        }
        for (g, (group, scale)) in rescaled.chunks(group_size).zip(scales).enumerate() {
            let (low, high, needed) = needed(group);
            let decoded = |code: u8| (row_scale * scale_factor(code)) * power;
            let mut code = if row_scale > 0.0 { scale_code_up(needed / (row_scale * power)) } else { 0 };
            while decoded(code) < needed && code < u8::MAX {
                code += 1;
            }
            *scale = code;
            if let Some(zero_point) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
                *zero_point = centred::<BITS>(low, high, decoded(code));
            }
        }
        row_scale
    })
}

/// Returns the squared error of a row that was multiplied by `power`, at its true size, weight by weight, times the
/// importances.
pub fn error(rescaled: &[f32], power: f32, importance: Option<&[f32]>, params: &Params) -> f64 {
    for_bits!(params.bits, BITS => {
        let mut error = 0.0;
        for (i, x) in rescaled.iter().enumerate() {
            let (scale, z) = params.group::<BITS>(i / params.group_size.max(1));
            let decoded = scale * (round_clamped_f32(x * reciprocal(scale * power) + z, max_code::<BITS>()) - z);
            let weight = importance.and_then(|importance| importance.get(i)).map_or(1.0, |weight| f64::from(*weight));
            error += weight * (f64::from(*x) / f64::from(power) - f64::from(decoded)).powi(2);
        }
        error
    })
}

/// Returns the true scale of a row that was multiplied by `power`, lowered, with scale codes where that is not enough,
/// until the ends of every group decode to finite weights.
pub fn settle(
    rescaled: &[f32],
    power: f32,
    bits: u8,
    group_size: usize,
    rescaled_row_scale: f32,
    scales: &mut [u8],
    zero_points: Option<&[u8]>,
) -> f32 {
    for_bits!(bits, BITS => {
        let mut row_scale = rescaled_row_scale / power;
        let groups = || rescaled.chunks(group_size.max(1));
        let finite = |row_scale: f32, g: usize, group: &[f32], code: u8| {
            let (low, high) = group_range(group);
            let scale = row_scale * scale_factor(code);
            let zero_code = zero_points.and_then(|codes| codes.get(g)).copied().unwrap_or(0);
            let z = zero::<BITS>(zero_code, zero_points.is_none());
            let inverse = reciprocal(scale * power);
            let decoded = |w: f32| scale * (round_clamped_f32(w * inverse + z, max_code::<BITS>()) - z);
            decoded(low).is_finite() && decoded(high).is_finite()
        };
        // Rounding alone exceeds f32's range by a few units in the last place.
        for _ in 0..8 {
            if groups().zip(&*scales).enumerate().all(|(g, (group, code))| finite(row_scale, g, group, *code)) {
                return row_scale;
            }
            row_scale = row_scale.next_down();
        }
        for (g, (group, code)) in groups().zip(scales).enumerate() {
            while !finite(row_scale, g, group, *code) && *code > 0 {
                *code -= 1;
            }
        }
        row_scale
    })
}
