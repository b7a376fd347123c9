//! Parameters of least squared error, sixteen groups at a time.
//!
//! Candidates are pairs of codes, scale and zero point as they will be stored, so that rounding is part of what is
//! minimized. Three sums over a group (of `q`, `q^2` and `x q`) give both the error of a candidate and the
//! least-squares scale and zero point for its codes `q`, which is the next candidate. With one group per lane no sum
//! crosses lanes.

use super::{
    dispatch::kernel,
    lanes::max,
    minmax::minmax_row,
    params::{max_code, middle, reciprocal, round_clamped_f32, zero_point_code_f32, zero_point_f32},
    range::{covering_scale, group_range},
    scale::{scale_code_nearest, scale_code_up, scale_factor, scale_factor_moved},
    tile::{Buffer, DEPTH, LANES, Lane, Tile},
};

/// For each lane the factor that a scale code stands for, and a zero-point code, both as f32 so that they stay in its
/// registers.
type Candidate = (Lane, Lane);

/// What a candidate leaves: sums over the codes `q` that it gives.
#[derive(Clone, Copy)]
struct Sums {
    q: Lane,
    qq: Lane,
    xq: Lane,
}

impl Sums {
    const NONE: Self = Self { q: [0.0; LANES], qq: [0.0; LANES], xq: [0.0; LANES] };

    #[inline(always)]
    fn add<const BITS: usize>(&mut self, x: &Lane, weight: Option<&Lane>, inverse: &Lane, z: &Lane) {
        for i in 0..LANES {
            let q = round_clamped_f32(x[i] * inverse[i] + z[i], max_code::<BITS>());
            let wq = weight.map_or(q, |w| w[i] * q);
            self.q[i] += wq;
            self.qq[i] += wq * q;
            self.xq[i] += wq * x[i];
        }
    }
}

/// The best of the candidates so far, in each lane.
struct Search<'t, const BITS: usize> {
    tile: &'t Tile<'t>,
    symmetric: bool,
    row_scale: f32,
    inverse_row_scale: f32,
    error: Lane,
    best: Candidate,
    sums: Sums,
}

/// The factor nearest to `ratio`.
#[inline(always)]
fn nearest(ratio: f32) -> f32 {
    scale_factor(scale_code_nearest(ratio))
}

impl<const BITS: usize> Search<'_, BITS> {
    #[inline(always)]
    fn zero_point(&self, code: f32) -> f32 {
        if self.symmetric { middle::<BITS>() } else { zero_point_f32::<BITS>(code) }
    }

    /// Evaluates a candidate, and keeps it in the lanes where it is the best.
    #[inline(always)]
    fn consider(&mut self, (scales, zeros): Candidate) -> Sums {
        let (mut s, mut z, mut inverse) = ([0f32; LANES], [0f32; LANES], [0f32; LANES]);
        for i in 0..LANES {
            s[i] = self.row_scale * scales[i];
            z[i] = self.zero_point(zeros[i]);
            inverse[i] = reciprocal(s[i]);
        }
        let tile = self.tile;
        let mut sums = Sums::NONE;
        if let Some((x, weight)) = &tile.tail {
            sums.add::<BITS>(x, Some(weight), &inverse, &z);
        }
        match tile.importance {
            None => {
                for x in tile.weights {
                    sums.add::<BITS>(x, None, &inverse, &z);
                }
            }
            Some(importance) => {
                for (x, weight) in tile.weights.iter().zip(importance) {
                    sums.add::<BITS>(x, Some(weight), &inverse, &z);
                }
            }
        }
        let sums = Sums { q: tile.total(sums.q), qq: tile.total(sums.qq), xq: tile.total(sums.xq) };
        for i in 0..LANES {
            // sum (x - s (q - z))^2, without sum x^2, which is the same for all candidates.
            let cross = sums.xq[i] - z[i] * tile.x[i];
            let square = sums.qq[i] - 2.0 * z[i] * sums.q[i] + z[i] * z[i] * tile.n[i];
            let error = s[i] * (s[i] * square - 2.0 * cross);
            let better = error < self.error[i];
            self.error[i] = if better { error } else { self.error[i] };
            self.best.0[i] = if better { scales[i] } else { self.best.0[i] };
            self.best.1[i] = if better { zeros[i] } else { self.best.1[i] };
            self.sums.q[i] = if better { sums.q[i] } else { self.sums.q[i] };
            self.sums.qq[i] = if better { sums.qq[i] } else { self.sums.qq[i] };
            self.sums.xq[i] = if better { sums.xq[i] } else { self.sums.xq[i] };
        }
        sums
    }

    /// The codes nearest to the least-squares scale and zero point for the codes that left `sums`.
    #[inline(always)]
    fn fitted(&self, sums: &Sums) -> Candidate {
        let (mut scales, mut zeros) = ([0f32; LANES], [0f32; LANES]);
        for i in 0..LANES {
            let (n, x) = (self.tile.n[i], self.tile.x[i]);
            let (q, qq, xq) = (sums.q[i], sums.qq[i], sums.xq[i]);
            // x = slope * (q - z): z is where the line vanishes.
            let slope = (n * xq - x * q) * reciprocal(n * qq - q * q);
            zeros[i] = zero_point_code_f32::<BITS>((q - x * reciprocal(slope)) * self.tile.inverse_n[i]);
            // The scale is fitted to the zero point as rounded.
            let z = self.zero_point(zeros[i]);
            let fit = (xq - z * x) * reciprocal(qq - 2.0 * z * q + z * z * n);
            scales[i] = nearest(max(fit, 0.0) * self.inverse_row_scale);
        }
        (scales, zeros)
    }

    /// The best scale code moved by `step`, the zero point that fits there to the best codes moved by `shift`.
    #[inline(always)]
    fn moved(&self, step: i32, shift: f32) -> Candidate {
        let (mut scales, mut zeros) = ([0f32; LANES], [0f32; LANES]);
        for i in 0..LANES {
            scales[i] = scale_factor_moved(self.best.0[i], step);
            let s = self.row_scale * scales[i];
            let z = (self.sums.q[i] - self.tile.x[i] * reciprocal(s)) * self.tile.inverse_n[i];
            zeros[i] = zero_point_code_f32::<BITS>(z + shift);
        }
        (scales, zeros)
    }

    /// The covering scale times `shrink`, rounded by `round`; what is clipped is shared by the ends as `lean` says:
    /// -1 clips nothing at the low end, 1 nothing at the high end.
    #[inline(always)]
    fn shrunk(&self, shrink: f32, lean: f32, round: impl Fn(f32) -> f32) -> Candidate {
        let (mut scales, mut zeros) = ([0f32; LANES], [0f32; LANES]);
        for i in 0..LANES {
            let (low, high) = (self.tile.low[i], self.tile.high[i]);
            let cover = covering_scale::<BITS>(low, high, self.symmetric);
            scales[i] = round(cover * shrink * self.inverse_row_scale);
            let inverse = reciprocal(self.row_scale * scales[i]);
            let (from_low, from_high) = (-low * inverse, max_code::<BITS>() - high * inverse);
            zeros[i] = zero_point_code_f32::<BITS>(((from_low + from_high) + lean * (from_high - from_low)) * 0.5);
        }
        (scales, zeros)
    }

    /// Considers every candidate of the schedule in turn.
    #[inline(always)]
    fn run(&mut self, schedule: &[Step]) {
        let mut last = Sums::NONE;
        for step in schedule {
            // One call of `consider`, so that it is compiled once.
            let candidate = match *step {
                Step::Cover => self.shrunk(1.0, 0.0, |ratio| scale_factor(scale_code_up(ratio))),
                Step::Shrink(shrink, lean) => self.shrunk(shrink, lean, nearest),
                Step::Fit => self.fitted(&last),
                Step::Refit => self.fitted(&self.sums),
                Step::Move(step, shift) => self.moved(step, shift),
            };
            last = self.consider(candidate);
        }
    }
}

/// How the next candidate is made.
#[derive(Clone, Copy)]
enum Step {
    /// The range, the scale rounded up: what [`minmax`](fn@super::minmax::minmax) starts from.
    Cover,
    /// The range shrunk, leaning to an end.
    Shrink(f32, f32),
    /// The fit to the candidate before.
    Fit,
    /// The fit to the best candidate.
    Refit,
    /// The best candidate, scale code and zero point moved.
    Move(i32, f32),
}

/// The candidates at each width, with zero points and without. Found by trial on normal, Laplace and Student-t rows
/// against all pairs of codes; the tests hold them to within 0.1 dB of that.
#[inline(always)]
fn schedule<const BITS: usize>(symmetric: bool) -> &'static [Step] {
    use Step::{Cover, Fit, Move, Refit, Shrink};
    match (symmetric, BITS) {
        (false, 2) => &[
            Cover,
            Shrink(1.0, 0.0),
            Shrink(0.85, -0.5),
            Fit,
            Shrink(0.85, 0.5),
            Fit,
            Shrink(0.7, -0.5),
            Fit,
            Shrink(0.7, 0.0),
            Fit,
            Shrink(0.7, 0.5),
            Fit,
            Shrink(0.55, -0.5),
            Fit,
            Shrink(0.55, 0.0),
            Fit,
            Shrink(0.55, 0.5),
            Fit,
            Refit,
            Move(1, 0.0),
            Move(-1, 0.0),
            Move(0, 0.12),
            Move(0, -0.12),
            Move(2, 0.0),
            Move(-2, 0.0),
            Move(0, 0.06),
            Move(0, -0.06),
        ],
        (false, 3) => &[
            Cover,
            Shrink(1.0, 0.0),
            Shrink(0.9, -0.4),
            Fit,
            Shrink(0.9, 0.4),
            Fit,
            Shrink(0.75, 0.0),
            Fit,
            Shrink(0.75, -0.5),
            Fit,
            Shrink(0.75, 0.5),
            Fit,
            Move(0, 0.3),
            Move(0, -0.3),
            Move(1, 0.0),
            Move(1, 0.3),
            Move(1, -0.3),
            Move(-1, 0.0),
            Move(-1, 0.3),
            Move(-1, -0.3),
            Move(0, 0.15),
            Move(0, -0.15),
            Move(0, 0.1),
            Move(0, -0.1),
        ],
        (false, _) => &[
            Cover,
            Shrink(1.0, 0.0),
            Shrink(0.95, 0.0),
            Fit,
            Move(0, 0.33),
            Move(0, -0.33),
            Move(1, 0.0),
            Move(1, 0.33),
            Move(1, -0.33),
            Move(-1, 0.0),
            Move(-1, 0.33),
            Move(-1, -0.33),
            Move(2, 0.0),
            Move(2, 0.33),
            Move(2, -0.33),
            Move(-2, 0.0),
            Move(-2, 0.33),
            Move(-2, -0.33),
            Move(0, 0.15),
            Move(0, -0.15),
            Move(1, 0.0),
            Move(-1, 0.0),
            Refit,
            Move(0, 0.1),
            Move(0, -0.1),
        ],
        (true, 2) => &[
            Cover,
            Shrink(1.0, 0.0),
            Fit,
            Shrink(0.85, 0.0),
            Fit,
            Shrink(0.7, 0.0),
            Fit,
            Shrink(0.58, 0.0),
            Fit,
            Shrink(0.48, 0.0),
            Fit,
            Shrink(0.4, 0.0),
            Fit,
            Shrink(0.33, 0.0),
            Fit,
            Refit,
            Move(1, 0.0),
            Move(-1, 0.0),
        ],
        (true, 3) => &[
            Cover,
            Shrink(1.0, 0.0),
            Fit,
            Shrink(0.92, 0.0),
            Fit,
            Shrink(0.84, 0.0),
            Fit,
            Shrink(0.76, 0.0),
            Fit,
            Shrink(0.68, 0.0),
            Fit,
            Shrink(0.6, 0.0),
            Fit,
            Refit,
            Move(1, 0.0),
            Move(-1, 0.0),
        ],
        (true, _) => &[
            Cover,
            Shrink(1.0, 0.0),
            Fit,
            Shrink(0.95, 0.0),
            Fit,
            Shrink(0.9, 0.0),
            Fit,
            Shrink(0.85, 0.0),
            Fit,
            Shrink(0.8, 0.0),
            Fit,
            Shrink(0.75, 0.0),
            Fit,
            Refit,
            Move(1, 0.0),
            Move(-1, 0.0),
        ],
    }
}

/// Sums for the least-squares row scale: of `m (q - z) x`, and of `m^2 (q - z)^2`.
#[derive(Default)]
struct RowFit {
    cross: f64,
    square: f64,
}

impl RowFit {
    /// Adds the groups of the first `groups` lanes.
    #[inline(always)]
    fn add<const BITS: usize>(&mut self, search: &Search<BITS>, groups: usize) {
        for i in 0..groups.min(LANES) {
            let (m, z) = (f64::from(search.best.0[i]), f64::from(search.zero_point(search.best.1[i])));
            let (n, x) = (f64::from(search.tile.n[i]), f64::from(search.tile.x[i]));
            let (q, qq) = (f64::from(search.sums.q[i]), f64::from(search.sums.qq[i]));
            self.cross += m * (f64::from(search.sums.xq[i]) - z * x);
            self.square += m * m * (qq - 2.0 * z * q + z * z * n);
        }
    }

    /// The row scale of least error for the codes; `row_scale` where there is none.
    #[inline(always)]
    fn row_scale(&self, row_scale: f32) -> f32 {
        let fit = (self.cross / self.square) as f32;
        // The scales were rounded to within an eighth.
        if fit > row_scale * 0.8 && fit < row_scale * 1.25 { fit } else { row_scale }
    }
}

#[inline(always)]
fn search_tile<const BITS: usize>(
    tile: &Tile,
    row_scale: f32,
    symmetric: bool,
    fit: &mut RowFit,
    groups: usize,
) -> Candidate {
    let mut search = Search::<BITS> {
        tile,
        symmetric,
        row_scale,
        inverse_row_scale: reciprocal(row_scale),
        error: [f32::INFINITY; LANES],
        best: ([0.0; LANES], [0.0; LANES]),
        sums: Sums::NONE,
    };
    search.run(schedule::<BITS>(symmetric));
    fit.add(&search, groups);
    search.best
}

#[inline(always)]
fn search_row<const BITS: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    group_size: usize,
    scales: &mut [u8],
    mut zero_points: Option<&mut [u8]>,
) -> f32 {
    let group_size = group_size.max(1);
    let symmetric = zero_points.is_none();
    let mut row_scale = 0.0;
    for group in weights.chunks(group_size) {
        let (low, high) = group_range(group);
        row_scale = max(covering_scale::<BITS>(low, high, symmetric), row_scale);
    }
    let groups = if group_size > DEPTH { 1 } else { LANES };
    let mut buffer = Buffer::EMPTY;
    let mut fit = RowFit::default();
    for (t, (part, scales)) in
        weights.chunks(group_size.saturating_mul(groups)).zip(scales.chunks_mut(groups)).enumerate()
    {
        let start = t * groups * group_size;
        let importance = importance.map(|importance| &importance[start..start + part.len()]);
        let tile = if groups == 1 {
            Tile::of_one(part, importance)
        } else {
            Tile::of_groups(part, importance, group_size, &mut buffer)
        };
        let (best, best_zeros) = search_tile::<BITS>(&tile, row_scale, symmetric, &mut fit, scales.len());
        for (code, factor) in scales.iter_mut().zip(best) {
            *code = scale_code_nearest(factor);
        }
        if let Some(codes) = zero_points.as_mut().and_then(|codes| codes.get_mut(t * groups..t * groups + scales.len()))
        {
            for (code, zero) in codes.iter_mut().zip(best_zeros) {
                *code = zero as u8;
            }
        }
    }
    fit.row_scale(row_scale)
}

kernel! {
    /// Fills the scale codes and zero-point codes of a row for the least squared error of what they decode to, and returns
    /// the row's scale.
    ///
    /// From some 25 candidates per group, made by shrinking its range and by least squares, the best is kept; at 2 to 4
    /// bits it comes within 0.1 dB of the best of all pairs of codes, and is never worse than
    /// [`minmax`](fn@super::minmax::minmax). At 8 bits, where clipping does not pay, the scale of the range is rounded
    /// to the better side. The row's scale is then fitted to all groups.
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
            2 => search_row::<2>(weights, importance, group_size, scales, zero_points),
            3 => search_row::<3>(weights, importance, group_size, scales, zero_points),
            4 => search_row::<4>(weights, importance, group_size, scales, zero_points),
            _ => minmax_row::<8>(weights, importance, group_size, true, scratch, scales, zero_points),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{dispatch::Target, minmax::minmax, params::zero_point, samples};

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

    /// The squared error of a group, naively.
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
        // 2,500 groups of each kind, against every pair that could be the best.
        for bits in [2, 4] {
            for kind in [samples::normal, samples::heavy] {
                let (mut found_error, mut best_error) = (0.0, 0.0);
                for seed in 0..20 {
                    let x = kind(4000, seed + 1);
                    let found = find(&x, None, bits, 32, false, "search");
                    for (k, group) in x.chunks(32).enumerate() {
                        let most = f32::from((1u16 << bits) - 1);
                        let low = group.iter().fold(0f32, |m, x| m.min(*x));
                        let high = group.iter().fold(0f32, |m, x| m.max(*x));
                        let cover = (high - low) / most;
                        let scales = (0..=255u8).map(|code| found.row_scale * scale_factor(code));
                        let scales: Vec<f32> = scales.filter(|s| (cover * 0.3..cover * 1.1).contains(s)).collect();
                        // Every third zero point: the error is smooth at that distance (1/28 of a code at 2 bits).
                        let step = if bits == 2 { 3 } else { 1 };
                        let zeros = (0..=255u8).step_by(step).map(|code| decoded_zero(bits, code, false));
                        let near = |z: &f32| {
                            let middle = (most - (low + high) / cover) / 2.0;
                            (z - middle).abs() < 0.35 * most
                        };
                        let zeros: Vec<f32> = zeros.filter(near).collect();
                        let pairs = scales.iter().flat_map(|s| zeros.iter().map(move |z| (*s, *z)));
                        best_error +=
                            pairs.map(|(s, z)| f64::from(fast_error(group, most, s, z))).fold(f64::MAX, f64::min);
                        let s = found.row_scale * scale_factor(found.scales[k]);
                        found_error += error(group, None, bits, s, decoded_zero(bits, found.zeros[k], false));
                    }
                }
                let gap = 10.0 * (found_error / best_error).log10();
                assert!(gap < 0.1, "{bits} bits: {gap} dB");
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
