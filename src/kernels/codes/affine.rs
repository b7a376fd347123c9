//! Groups with a scale that is stored as a float and a zero point that is a code, as engines store them:
//! `weight = scale * (code - zero_point)`.

use super::{
    minmax::midpoint,
    pack::{pack_codes, unpack_codes},
    params::{for_bits, max_code, middle, reciprocal, round_clamped},
    quantize::encode,
    range::{covering_scale, group_range},
};
use crate::{
    kernels::{
        dispatch::kernel,
        search::{FloatScale, Grid, RowFit, search_groups},
    },
    types::{Float, Method},
};

/// Weights encoded before they are packed: whole bytes at every width.
const BLOCK: usize = 256;

#[inline(always)]
fn affine_row<const BITS: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    (float, method): (Float, Method),
    scales: &mut [f32],
    mut zero_points: Option<&mut [u8]>,
) {
    let grid = FloatScale::of(float);
    let group_size = group_size.max(1);
    let symmetric = zero_points.is_none();
    if method == Method::Search && BITS <= 4 {
        let mut fit = RowFit::default();
        search_groups::<BITS, _>(weights, importance, group_size, grid, 1.0, symmetric, &mut fit, |g, factor, zero| {
            if let Some(scale) = scales.get_mut(g) {
                *scale = factor;
            }
            if let Some(code) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
                *code = zero as u8;
            }
        });
        return;
    }
    for (g, (group, scale)) in weights.chunks(group_size).zip(&mut *scales).enumerate() {
        let (low, high) = group_range(group);
        let cover = covering_scale::<BITS>(low, high, symmetric);
        *scale = grid.up(cover);
        if let Some(code) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
            *code = round_clamped(midpoint::<BITS>(low, high, *scale), max_code::<BITS>());
        }
    }
}

kernel! {
    /// Fills the scale, as it is stored, and the zero point of every group: the least squared error by search where
    /// `method` says so, else the range of the group, zero included.
    ///
    /// `weights` are finite and of moderate size ([`extreme`](crate::kernels::extreme)), `scales` and `zero_points` have a
    /// place for each group; without `zero_points` the zero point is `2^(bits-1)`. `importance` as for
    /// [`search`](fn@crate::kernels::search::search). No scale of a group with weights other than 0 is 0.
    ///
    /// ```
    /// use arrow_quant::{kernels::affine::affine, types::{Float, Method}};
    ///
    /// let (mut scales, mut zero_points) = ([0.0; 1], [0; 1]);
    /// affine(&[-1.0, 2.0], None, 2, 2, (Float::BF16, Method::Minmax), &mut scales, Some(&mut zero_points));
    /// assert_eq!((scales, zero_points), ([1.0], [1]));
    /// ```
    pub fn affine(
        weights: &[f32],
        importance: Option<&[f32]>,
        bits: u8,
        group_size: usize,
        method: (Float, Method),
        scales: &mut [f32],
        zero_points: Option<&mut [u8]>,
    ) {
        for_bits!(bits, BITS => {
            affine_row::<BITS>(weights, importance, group_size, method, scales, zero_points);
        });
    }
}

#[inline(always)]
fn zero<const BITS: usize>(zero_points: Option<&[u8]>, group: usize) -> f32 {
    zero_points.map_or(middle::<BITS>(), |codes| codes.get(group).map_or(0.0, |code| f32::from(*code)))
}

kernel! {
    /// Encodes and packs a row: `code = clamp(round(w * (1 / (scale * power)) + zero_point), 0, 2^bits - 1)`, ties to even.
    ///
    /// `weights` are the row's weights times `power`, 1 but for rows near the ends of f32
    /// ([`extreme`](crate::kernels::extreme)).
    ///
    /// ```
    /// let mut packed = [0; 1];
    /// arrow_quant::kernels::affine::affine_encode(&[-0.5, 0.0, 1.0, 9.0], 1.0, 2, 4, &[0.5], Some(&[1]), &mut packed);
    /// assert_eq!(packed, [0b11_11_01_00]);
    /// ```
    pub fn affine_encode(
        weights: &[f32],
        power: f32,
        bits: u8,
        group_size: usize,
        scales: &[f32],
        zero_points: Option<&[u8]>,
        packed: &mut [u8],
    ) {
        for_bits!(bits, BITS => {
            let group_size = group_size.max(1);
            let mut staged = [0; BLOCK];
            for (b, (weights, packed)) in weights.chunks(BLOCK).zip(packed.chunks_mut(BLOCK * BITS / 8)).enumerate() {
                let mut start = 0;
                while start < weights.len() {
                    let at = b * BLOCK + start;
                    let group = at / group_size;
                    let end = weights.len().min(start.saturating_add(group_size - at % group_size));
                    let inverse = reciprocal(scales.get(group).copied().unwrap_or(0.0) * power);
                    encode::<BITS>(&weights[start..end], inverse, zero::<BITS>(zero_points, group), &mut staged[start..end]);
                    start = end;
                }
                pack_codes::<BITS>(&staged[..weights.len()], packed);
            }
        });
    }
}

kernel! {
    /// Decodes `weights.len()` weights in f32: `scale * (code - zero_point)`.
    ///
    /// ```
    /// let mut weights = [0.0; 4];
    /// arrow_quant::kernels::affine::affine_decode(&[0b11_10_01_00], 2, 4, &[0.5], Some(&[1]), &mut weights);
    /// assert_eq!(weights, [-0.5, 0.0, 0.5, 1.0]);
    /// ```
    pub fn affine_decode(
        packed: &[u8],
        bits: u8,
        group_size: usize,
        scales: &[f32],
        zero_points: Option<&[u8]>,
        weights: &mut [f32],
    ) {
        for_bits!(bits, BITS => {
            let group_size = group_size.max(1);
            let mut staged = [0; BLOCK];
            for (b, (weights, packed)) in weights.chunks_mut(BLOCK).zip(packed.chunks(BLOCK * BITS / 8)).enumerate() {
                unpack_codes::<BITS>(packed, &mut staged[..weights.len()]);
                let mut start = 0;
                while start < weights.len() {
                    let at = b * BLOCK + start;
                    let group = at / group_size;
                    let end = weights.len().min(start.saturating_add(group_size - at % group_size));
                    let scale = scales.get(group).copied().unwrap_or(0.0);
                    let zero_point = zero::<BITS>(zero_points, group);
                    for (code, w) in staged[start..end].iter().zip(&mut weights[start..end]) {
                        *w = scale * (f32::from(*code) - zero_point);
                    }
                    start = end;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples};

    fn decoded(row: &[f32], bits: u8, group: usize, (float, method): (Float, Method), symmetric: bool) -> Vec<f32> {
        let groups = row.len().div_ceil(group);
        let (mut scales, mut zeros) = (vec![0.0; groups], vec![0; groups]);
        let codes = (!symmetric).then_some(&mut zeros[..]);
        affine(row, None, bits, group, (float, method), &mut scales, codes);
        for s in &scales {
            assert_eq!(s.to_bits() & ((1 << FloatScale::of(float).dropped) - 1), 0, "{s} is not a {float}");
        }
        let zeros = (!symmetric).then_some(&zeros[..]);
        let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
        affine_encode(row, 1.0, bits, group, &scales, zeros, &mut packed);
        let mut back = vec![0.0; row.len()];
        affine_decode(&packed, bits, group, &scales, zeros, &mut back);
        back
    }

    fn error(row: &[f32], back: &[f32]) -> f64 {
        row.iter().zip(back).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
    }

    #[test]
    fn the_range_loses_half_a_step_at_most_and_the_search_loses_less() {
        for (seed, group) in [(1, 32), (2, 64), (3, 100), (4, 4096)] {
            let row = samples::heavy(4096, seed);
            for bits in [2u8, 3, 4, 8] {
                for symmetric in [false, true] {
                    for scale in [Float::BF16, Float::F16, Float::F32] {
                        let range = decoded(&row, bits, group, (scale, Method::Minmax), symmetric);
                        let least = decoded(&row, bits, group, (scale, Method::Search), symmetric);
                        for (group, back) in row.chunks(group).zip(range.chunks(group)) {
                            let (low, high) = group_range(group);
                            let codes = f32::from((1u16 << bits) - 1);
                            let width =
                                if symmetric { 2.0 * high.max(-low) / (codes - 1.0) } else { (high - low) / codes };
                            let worst = group.iter().zip(back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                            // A zero point that is a code shifts the grid by up to half a step more.
                            assert!(worst <= width * 1.02 + 1e-6, "{bits} bits {symmetric} {scale:?}: {worst} {width}");
                        }
                        let (range, least) = (error(&row, &range), error(&row, &least));
                        assert!(least <= range * 1.001, "{bits} bits {symmetric} {scale:?}: {least} {range}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_target_gives_the_same_bits() {
        for row in samples::rows().step_by(3) {
            for (bits, group) in [(2u8, 32), (3, 16), (4, 128), (8, 32), (4, usize::MAX), (8, usize::MAX)] {
                let groups = row.len().div_ceil(group);
                let mut first = None;
                for target in Target::available() {
                    let (mut scales, mut zeros) = (vec![0.0; groups], vec![0; groups]);
                    affine::on(
                        target,
                        &row,
                        None,
                        bits,
                        group,
                        (Float::BF16, Method::Search),
                        &mut scales,
                        Some(&mut zeros),
                    );
                    let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
                    affine_encode::on(target, &row, 1.0, bits, group, &scales, Some(&zeros), &mut packed);
                    let mut back = vec![0.0; row.len()];
                    affine_decode::on(target, &packed, bits, group, &scales, Some(&zeros), &mut back);
                    let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    let all = (bits(&scales), zeros, packed, bits(&back));
                    assert!(*first.get_or_insert_with(|| all.clone()) == all, "{}", target.name());
                }
            }
        }
    }
}
