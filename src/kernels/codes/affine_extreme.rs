//! Groups with a scale that is stored as a float, in rows near the ends of that float.

use super::{params::round_clamped, range::group_range};

/// Fills scales and zero points of a row near the ends of its float, at its true size: scales just large enough, or where
/// a code would pass `limit`, just small enough. `beside` gives the least stored scale of at least a number, or with false the
/// largest of at most it.
pub fn affine_extreme(
    weights: &[f32],
    bits: u8,
    group_size: usize,
    limit: f32,
    beside: impl Fn(f64, bool) -> f32,
    scales: &mut [f32],
    mut zero_points: Option<&mut [u8]>,
) {
    let (most, half) = (f64::from((1u32 << bits.min(8)) - 1), f64::from(1u32 << (bits.min(8) - 1)));
    for (g, (group, scale)) in weights.chunks(group_size.max(1)).zip(scales).enumerate() {
        let (low, high) = group_range(group);
        let (low, high) = (f64::from(low), f64::from(high));
        let needed = match zero_points {
            None => (high / (half - 1.0)).max(-low / half),
            Some(_) => (high - low) / most,
        };
        *scale = beside(needed, true);
        let mut zero_point = half;
        if let Some(code) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
            let z = if *scale > 0.0 { -low / f64::from(*scale) } else { 0.0 };
            *code = round_clamped(z as f32, most as f32);
            zero_point = f64::from(*code);
        }
        // Only codes that are used must not pass the limit; a smaller scale may use more of them, up to the last.
        let used = |scale: f32| {
            let from_zero =
                |x: f64| (x / f64::from(scale) + zero_point).round_ties_even().clamp(0.0, most) - zero_point;
            from_zero(low).abs().max(from_zero(high).abs())
        };
        for furthest in [used(*scale), zero_point.max(most - zero_point)] {
            if f64::from(*scale) * used(*scale) > f64::from(limit) {
                *scale = beside(f64::from(limit) / furthest, false);
            }
        }
    }
}

/// Scales and zero points of a row.
#[derive(Debug)]
pub struct GroupParams<'a> {
    /// A scale for each group.
    pub scales: &'a mut [f32],
    /// A zero point for each group; `None`: symmetric.
    pub zero_points: Option<&'a mut [u8]>,
}

/// Replaces the parameters of every group by `others` where these lose less, weight by weight, times the importances. What
/// would decode to more than `limit` loses without end.
pub fn affine_better(
    weights: &[f32],
    importance: Option<&[f32]>,
    bits: u8,
    group_size: usize,
    limit: f32,
    params: &mut GroupParams,
    others: &GroupParams,
) {
    let (most, half) = (f64::from((1u32 << bits.min(8)) - 1), f64::from(1u32 << (bits.min(8) - 1)));
    let group_size = group_size.max(1).min(weights.len().max(1));
    let error = |g: usize, group: &[f32], params: &GroupParams| -> f64 {
        let zero_point = |codes: &&mut [u8]| codes.get(g).map_or(0.0, |code| f64::from(*code));
        let z = params.zero_points.as_ref().map_or(half, zero_point);
        let s = params.scales.get(g).map_or(0.0, |scale| f64::from(*scale));
        let square = |x: f32| {
            let q = if s > 0.0 { (f64::from(x) / s + z).round_ties_even().clamp(0.0, most) } else { z };
            let decoded = s * (q - z);
            if decoded.abs() > f64::from(limit) { f64::INFINITY } else { (f64::from(x) - decoded).powi(2) }
        };
        let weight =
            |i: usize| importance.and_then(|weights| weights.get(g * group_size + i)).map_or(1.0, |w| f64::from(*w));
        group.iter().enumerate().map(|(i, x)| square(*x) * weight(i)).sum()
    };
    for (g, group) in weights.chunks(group_size).enumerate() {
        if error(g, group, others) < error(g, group, params) {
            params.scales[g] = others.scales[g];
            if let (Some(codes), Some(others)) = (&mut params.zero_points, &others.zero_points) {
                codes[g] = others[g];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::affine::{affine_decode, affine_encode},
        *,
    };

    #[test]
    fn extreme_groups_stay_finite_and_near() {
        let half = |x: f64| x as f32;
        for symmetric in [false, true] {
            for row in [[f32::MAX, f32::MIN, 0.0, 1.0], [1e-45, 0.0, -1e-44, 3e-45], [3e38, 1e38, 0.0, 2e38]] {
                let (mut scales, mut zeros) = ([0.0], [0]);
                let beside = |x: f64, up: bool| match (up, f64::from(half(x)) < x, f64::from(half(x)) > x) {
                    (true, true, _) => half(x).next_up(),
                    (false, _, true) => half(x).next_down(),
                    _ => half(x),
                };
                affine_extreme(&row, 8, 4, f32::MAX, beside, &mut scales, (!symmetric).then_some(&mut zeros[..]));
                let zeros = (!symmetric).then_some(&zeros[..]);
                let (mut packed, mut back) = ([0; 4], [0.0; 4]);
                affine_encode(&row, 1.0, 8, 4, &scales, zeros, &mut packed);
                affine_decode(&packed, 8, 4, &scales, zeros, &mut back);
                assert!(back.iter().all(|x| x.is_finite()), "{row:?} {back:?}");
            }
        }
    }
}
