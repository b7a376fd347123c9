//! Parameters of least squared error, many groups at a time.
//!
//! Candidates are pairs of codes, scale and zero point as they will be stored, so that rounding is part of what is
//! minimized. Three sums over a group (of `q`, `q^2` and `x q`) give both the error of a candidate and the
//! least-squares scale and zero point for its codes `q`, which is the next candidate. With one group per lane no sum
//! crosses lanes.

mod candidate;
mod grid;
#[cfg(test)]
mod never_loses;
mod row_fit;
mod schedule;
pub(super) mod sums;
pub(super) mod tile;

use candidate::{Candidate, Search};
pub(super) use grid::{FloatScale, Grid, TwoLevel};
pub(super) use row_fit::RowFit;
use schedule::schedule;
use tile::{Buffer, DEPTH, NARROW, Tile, WIDE};

use super::{
    dispatch::kernel,
    lanes::{each, each_pair, fold},
    minmax::{centred, covering_row_scale, zero},
    params::{max_code, reciprocal, round_clamped_f32},
    range::covering_scale,
    scale::{scale_code_nearest, scale_code_up, scale_factor},
};

#[inline(always)]
fn search_tile<const BITS: usize, const L: usize, G: Grid>(
    tile: &Tile<L>,
    grid: G,
    row_scale: f32,
    symmetric: bool,
    fit: &mut RowFit,
    groups: usize,
) -> Candidate<L> {
    let mut search = Search::<BITS, L, G>::new(tile, grid, row_scale, symmetric);
    search.run(schedule::<BITS>(symmetric));
    fit.add(&search, groups);
    search.best
}

/// Returns the scale code and the zero-point code of one group, relative to `row_scale`, for the least squared error,
/// each multiplied by its weight in `importance`.
#[inline(always)]
pub(super) fn search_group<const BITS: usize>(weights: &[f32], importance: &[f32], row_scale: f32) -> (u8, u8) {
    let tile = Tile::<NARROW>::of_one(weights, Some(importance));
    let (scales, zeros) = search_tile::<BITS, _, _>(&tile, TwoLevel, row_scale, false, &mut RowFit::default(), 1);
    (scale_code_nearest(scales[0]), zeros[0] as u8)
}

#[inline(always)]
fn search_row<const BITS: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    scratch: &mut [f32],
    scales: &mut [u8],
    mut zero_points: Option<&mut [u8]>,
) -> f32 {
    let group_size = group_size.max(1);
    let symmetric = zero_points.is_none();
    let row_scale = covering_row_scale::<BITS>(weights, group_size, symmetric, scratch).0;
    let mut fit = RowFit::default();
    search_groups::<BITS, _>(
        weights,
        importance,
        group_size,
        TwoLevel,
        row_scale,
        symmetric,
        &mut fit,
        |g, factor, zero| {
            if let Some(code) = scales.get_mut(g) {
                *code = scale_code_nearest(factor);
            }
            if let Some(code) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
                *code = zero as u8;
            }
        },
    );
    let fitted = fit.row_scale(row_scale);
    if fit.cancels() {
        let zeros = zero_points.as_deref();
        let error = |row_scale| row_error::<BITS>(weights, importance, group_size, row_scale, scales, zeros);
        if error(row_scale) <= error(fitted) {
            return row_scale;
        }
    }
    fitted
}

/// Fills the parameters of 8 bits: the scale of each group's range, rounded up or to the nearest, whichever loses less.
/// Returns the row's scale.
#[inline(always)]
fn better_side(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    scratch: &mut [f32],
    scales: &mut [u8],
    mut zero_points: Option<&mut [u8]>,
) -> f32 {
    let group_size = group_size.max(1);
    let symmetric = zero_points.is_none();
    let (row_scale, lows, highs) = covering_row_scale::<8>(weights, group_size, symmetric, scratch);
    let divisor = if row_scale > 0.0 { row_scale } else { 1.0 };
    for (g, (group, scale)) in weights.chunks(group_size).zip(scales).enumerate() {
        let (low, high) = (lows.get(g).copied().unwrap_or(0.0), highs.get(g).copied().unwrap_or(0.0));
        let importance = importance.map(|importance| &importance[g * group_size..g * group_size + group.len()]);
        let ratio = covering_scale::<8>(low, high, symmetric) / divisor;
        let sides = [scale_code_up(ratio), scale_code_nearest(ratio)].map(|code| {
            let s = row_scale * scale_factor(code);
            let zero_code = centred::<8>(low, high, s);
            (group_error(group, importance, s, zero::<8>(zero_code, symmetric)), code, zero_code)
        });
        let (_, code, zero_code) = if sides[1].0 < sides[0].0 { sides[1] } else { sides[0] };
        *scale = code;
        if let Some(place) = zero_points.as_mut().and_then(|codes| codes.get_mut(g)) {
            *place = zero_code;
        }
    }
    row_scale
}

/// Returns the squared error of a group at 8 bits, weight by weight, times the importances.
#[inline(always)]
fn group_error(group: &[f32], importance: Option<&[f32]>, s: f32, z: f32) -> f32 {
    const LANES: usize = 16;
    let inverse = reciprocal(s);
    let off = |x: f32| x - s * (round_clamped_f32(x * inverse + z, max_code::<8>()) - z);
    let mut sums = [0f32; LANES];
    match importance {
        None => each::<_, LANES>(group, |lane, x| sums[lane] += off(x) * off(x)),
        Some(importance) => {
            each_pair::<_, LANES>(group, importance, |lane, x, weight| sums[lane] += weight * off(x) * off(x));
        }
    }
    fold(sums, |a, b| a + b)
}

/// Returns the squared error of a row, weight by weight, times the importances.
#[inline(always)]
fn row_error<const BITS: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    row_scale: f32,
    scales: &[u8],
    zero_points: Option<&[u8]>,
) -> f64 {
    let mut error = 0.0;
    for (g, (group, code)) in weights.chunks(group_size).zip(scales).enumerate() {
        let s = row_scale * scale_factor(*code);
        let z = zero::<BITS>(zero_points.map_or(0, |codes| codes.get(g).copied().unwrap_or(0)), zero_points.is_none());
        let inverse = reciprocal(s);
        for (i, x) in group.iter().enumerate() {
            let off = f64::from(x - s * (round_clamped_f32(x * inverse + z, max_code::<BITS>()) - z));
            let weight =
                importance.map_or(1.0, |importance| importance.get(g * group_size + i).copied().unwrap_or(0.0));
            error += f64::from(weight) * (off * off);
        }
    }
    error
}

/// Gives the best factor and zero-point code of every group to `put`, with the group's number.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "a struct would be built and taken apart at the one call")]
pub(super) fn search_groups<const BITS: usize, G: Grid>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    grid: G,
    row_scale: f32,
    symmetric: bool,
    fit: &mut RowFit,
    mut put: impl FnMut(usize, f32, f32),
) {
    let groups = if group_size > DEPTH { 1 } else { WIDE };
    let mut buffer = Buffer::EMPTY;
    for (t, part) in weights.chunks(group_size.saturating_mul(groups)).enumerate() {
        let start = t * groups * group_size;
        let here = part.len().div_ceil(group_size);
        let importance = importance.map(|importance| &importance[start..start + part.len()]);
        let mut put = |(best, zeros): (&[f32], &[f32])| {
            for (g, (factor, zero)) in best.iter().zip(zeros).enumerate().take(here) {
                put(t * groups + g, *factor, *zero);
            }
        };
        if here > NARROW {
            let tile = Tile::<WIDE>::of_groups(part, importance, group_size, &mut buffer);
            let (best, zeros) = search_tile::<BITS, _, G>(&tile, grid, row_scale, symmetric, fit, here);
            put((&best, &zeros));
        } else {
            let tile = if groups == 1 {
                Tile::<NARROW>::of_one(part, importance)
            } else {
                Tile::of_groups(part, importance, group_size, &mut buffer)
            };
            let (best, zeros) = search_tile::<BITS, _, G>(&tile, grid, row_scale, symmetric, fit, here);
            put((&best, &zeros));
        }
    }
}

kernel! {
    /// Fills the scale codes and zero-point codes of a row for the least squared error of what they decode to, and returns
    /// the row's scale.
    ///
    /// From 17 to 26 candidates per group, made by shrinking its range, by least squares and by moving the best of them, the
    /// best is kept; in groups of 32 it comes within 0.1 dB of the best of all pairs of codes, and is never worse than
    /// [`minmax`](fn@super::minmax::minmax). At 8 bits, where clipping does not pay, the scale of the range is rounded
    /// to the side of least error. Up to 4 bits the row's scale is then fitted to all groups.
    ///
    /// Each error is multiplied by its weight in `importance`, `weights.len()` numbers of at least 0, where given. The other
    /// arguments are those of [`minmax`](fn@super::minmax::minmax).
    ///
    /// ```
    /// let weights: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
    /// let (mut scratch, mut scales, mut zero_points) = ([0.0; 4], [0; 2], [0; 2]);
    /// let row_scale = arrow_quant::kernels::search::search(
    ///     &weights, None, 4, 32, &mut scratch, &mut scales, Some(&mut zero_points),
    /// );
    /// assert!((0.1..0.14).contains(&row_scale));
    /// ```
    pub fn search(
        weights: &[f32],
        importance: Option<&[f32]>,
        bits: u8,
        group_size: usize,
        scratch: &mut [f32],
        scales: &mut [u8],
        zero_points: Option<&mut [u8]>,
    ) -> f32 {
        match bits {
            2 => search_row::<2>(weights, importance, group_size, scratch, scales, zero_points),
            3 => search_row::<3>(weights, importance, group_size, scratch, scales, zero_points),
            4 => search_row::<4>(weights, importance, group_size, scratch, scales, zero_points),
            _ => better_side(weights, importance, group_size, scratch, scales, zero_points),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{
            dispatch::Target,
            minmax::minmax,
            params::{round_clamped_f32, zero_point},
            scale::scale_factor,
        },
        testing::samples,
    };

    struct Found {
        row_scale: f32,
        scales: Vec<u8>,
        zeros: Vec<u8>,
    }

    fn find(x: &[f32], importance: Option<&[f32]>, bits: u8, g: usize, symmetric: bool, method: &str) -> Found {
        let groups = x.len().div_ceil(g);
        let (mut scratch, mut scales, mut zeros) = (vec![0.0; 2 * groups], vec![0; groups], vec![0; groups]);
        let codes = (!symmetric).then_some(&mut zeros[..]);
        let row_scale = match method {
            "minmax" => minmax(x, bits, g, &mut scratch, &mut scales, codes),
            _ => search(x, importance, bits, g, &mut scratch, &mut scales, codes),
        };
        Found { row_scale, scales, zeros }
    }

    fn decoded_zero(bits: u8, code: u8, symmetric: bool) -> f32 {
        match (bits, symmetric) {
            (_, true) => f32::from(1u16 << (bits - 1)),
            (2, _) => zero_point::<2>(code),
            (3, _) => zero_point::<3>(code),
            (4, _) => zero_point::<4>(code),
            _ => zero_point::<8>(code),
        }
    }

    /// Returns the squared error of a group, naively.
    fn error(x: &[f32], importance: Option<&[f32]>, bits: u8, s: f32, z: f32) -> f64 {
        let most = f32::from((1u16 << bits) - 1);
        let inverse = 1.0 / s;
        let square = |x: f32| f64::from(x - s * ((x * inverse + z).clamp(0.0, most).round_ties_even() - z)).powi(2);
        x.iter().enumerate().map(|(i, x)| square(*x) * importance.map_or(1.0, |w| f64::from(w[i]))).sum()
    }

    fn total(x: &[f32], importance: Option<&[f32]>, bits: u8, g: usize, symmetric: bool, found: &Found) -> f64 {
        let groups = x.chunks(g).enumerate();
        groups
            .map(|(k, group)| {
                let s = found.row_scale * scale_factor(found.scales[k]);
                let z = decoded_zero(bits, found.zeros[k], symmetric);
                error(group, importance.map(|w| &w[k * g..]), bits, s, z)
            })
            .sum()
    }

    fn rows() -> impl Iterator<Item = Vec<f32>> {
        samples::rows().filter(|x| {
            let absmax = x.iter().fold(0f32, |m, x| m.max(x.abs()));
            (1e-9..1e9).contains(&absmax)
        })
    }

    #[test]
    fn every_target_finds_the_same_codes() {
        for x in samples::rows().step_by(3) {
            let weights: Vec<f32> = x.iter().map(|x| x.abs().min(9.0)).collect();
            for (bits, g) in [(2, 32), (3, 7), (4, 128), (4, 300), (8, 32)] {
                for importance in [None, Some(&weights[..])] {
                    for symmetric in [false, true] {
                        let groups = x.len().div_ceil(g);
                        let run = |target| {
                            let (mut scratch, mut scales, mut zeros) =
                                (vec![0.0; 2 * groups], vec![0; groups], vec![0; groups]);
                            let codes = (!symmetric).then_some(&mut zeros[..]);
                            let scale = search::on(target, &x, importance, bits, g, &mut scratch, &mut scales, codes);
                            (scale.to_bits(), scales, zeros)
                        };
                        let want = run(Target::BASELINE);
                        for target in Target::available() {
                            assert_eq!(run(target), want, "{} {bits} bits g{g}", target.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn it_is_never_worse_than_minmax() {
        for x in rows() {
            let signal: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            for (bits, g) in [(2, 32), (3, 32), (4, 32), (2, 128), (4, 7), (3, 200)] {
                for symmetric in [false, true] {
                    let [found, minmax] = ["search", "minmax"]
                        .map(|method| total(&x, None, bits, g, symmetric, &find(&x, None, bits, g, symmetric, method)));
                    assert!(
                        found <= minmax * 1.0001 + signal * 1e-6,
                        "{bits} bits g{g} n{}: {found} {minmax}",
                        x.len()
                    );
                }
            }
        }
    }

    #[test]
    fn it_comes_within_a_tenth_of_a_decibel_of_all_pairs_of_codes() {
        // 5,000 groups of each kind, of seeds that the schedule was not tuned on, against every pair that could be the best.
        for (bits, symmetric) in [2, 3, 4].into_iter().flat_map(|bits| [(bits, false), (bits, true)]) {
            for kind in [samples::normal, samples::heavy] {
                let (mut found_error, mut best_error) = (0.0, 0.0);
                for seed in 0..40 {
                    let x = kind(4000, seed + 7001);
                    let found = find(&x, None, bits, 32, symmetric, "search");
                    for (k, group) in x.chunks(32).enumerate() {
                        let most = f32::from((1u16 << bits) - 1);
                        let low = group.iter().fold(0f32, |m, x| m.min(*x));
                        let high = group.iter().fold(0f32, |m, x| m.max(*x));
                        let cover = if symmetric { high.max(-low) } else { (high - low) / most };
                        let least = if symmetric { 0.02 } else { 0.3 };
                        let scales = (0..=255u8).map(|code| found.row_scale * scale_factor(code));
                        let scales: Vec<f32> = scales.filter(|s| (cover * least..cover * 1.1).contains(s)).collect();
                        // Not every zero point: the error is smooth at this distance (1/28 of a code at 2 bits).
                        let step = 5 - usize::from(bits);
                        let zeros = (0..=255u8).step_by(step).map(|code| decoded_zero(bits, code, false));
                        let near = |z: &f32| {
                            let middle = (most - (low + high) / cover) / 2.0;
                            (z - middle).abs() < 0.35 * most
                        };
                        let zeros: Vec<f32> =
                            if symmetric { vec![decoded_zero(bits, 0, true)] } else { zeros.filter(near).collect() };
                        let pairs = scales.iter().flat_map(|s| zeros.iter().map(move |z| (*s, *z)));
                        best_error +=
                            pairs.map(|(s, z)| f64::from(fast_error(group, most, s, z))).fold(f64::MAX, f64::min);
                        let s = found.row_scale * scale_factor(found.scales[k]);
                        found_error += error(group, None, bits, s, decoded_zero(bits, found.zeros[k], symmetric));
                    }
                }
                let gap = 10.0 * (found_error / best_error).log10();
                assert!(gap < 0.1, "{bits} bits, symmetric: {symmetric}: {gap} dB");
            }
        }
    }

    fn fast_error(x: &[f32], most: f32, s: f32, z: f32) -> f32 {
        let inverse = 1.0 / s;
        x.iter().map(|x| x - s * (round_clamped_f32(x * inverse + z, most) - z)).map(|d| d * d).sum()
    }

    #[test]
    fn importance_moves_the_error_to_where_it_matters_less() {
        let x = samples::heavy(4096, 9);
        let importance: Vec<f32> = (0..4096).map(|i| if i % 8 == 0 { 100.0 } else { 1.0 }).collect();
        for bits in [2, 3, 4] {
            for g in [32, 200] {
                let plain = find(&x, None, bits, g, false, "search");
                let weighted = find(&x, Some(&importance), bits, g, false, "search");
                let [plain, weighted] =
                    [plain, weighted].map(|found| total(&x, Some(&importance), bits, g, false, &found));
                assert!(weighted < plain * 0.9, "{bits} bits g{g}: {weighted} {plain}");
            }
        }
        let zeros = vec![0.0; 4096];
        find(&x, Some(&zeros), 4, 32, false, "search");
    }
}
