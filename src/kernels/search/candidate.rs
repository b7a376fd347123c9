//! Candidates for scale and zero point: how they are made, and what they are worth.

use super::{
    grid::Grid,
    schedule::Step,
    sums::{Sums, errors},
    tile::{Lane, Tile},
};
use crate::kernels::{
    lanes::{less, max, replace},
    params::{max_code, middle, reciprocal},
    range::covering_scale,
};

/// For each lane a factor of the grid, and a zero-point code, both as f32 so that they stay in its registers.
pub(super) type Candidate<const L: usize> = (Lane<L>, Lane<L>);

/// The largest scale of a candidate, in covering scales. Where codes do not spread, a fit is a quotient of what rounding left
/// over, and may be any number. The schedules reach a little over the covering scale, for scales that are rounded up.
const MOST_SCALE: f32 = 1.25;

/// The share of its terms below which an error is no longer told by sums: they cancel, and what is left is rounding.
pub(super) const CANCELS: f32 = 2e-4;

/// The best of the candidates so far, in each lane.
pub(super) struct Search<'t, const BITS: usize, const L: usize, G> {
    pub tile: &'t Tile<'t, L>,
    grid: G,
    symmetric: bool,
    row_scale: f32,
    inverse_row_scale: f32,
    /// The largest scale that a candidate may have.
    most: Lane<L>,
    error: Lane<L>,
    pub best: Candidate<L>,
    /// The sums of the best.
    pub sums: Sums<L>,
}

impl<'t, const BITS: usize, const L: usize, G: Grid> Search<'t, BITS, L, G> {
    #[inline(always)]
    pub(super) fn new(tile: &'t Tile<'t, L>, grid: G, row_scale: f32, symmetric: bool) -> Self {
        let (mut most, inverse_row_scale) = ([0.0; L], reciprocal(row_scale));
        for (most, (low, high)) in most.iter_mut().zip(tile.low.iter().zip(&tile.high)) {
            let cover = covering_scale::<BITS>(*low, *high, symmetric);
            // At the end of the grid the least scale that covers may be larger. Groups of zeros keep the candidate before all.
            let least = if cover > 0.0 { row_scale * grid.up(cover * inverse_row_scale) } else { 0.0 };
            *most = max(MOST_SCALE * cover, least);
        }
        Self {
            most,
            tile,
            grid,
            symmetric,
            row_scale,
            inverse_row_scale,
            error: [f32::INFINITY; L],
            best: ([0.0; L], [0.0; L]),
            sums: Sums::NONE,
        }
    }

    #[inline(always)]
    pub(super) fn zero_point(&self, code: f32) -> f32 {
        if self.symmetric { middle::<BITS>() } else { self.grid.zero_point::<BITS>(code) }
    }

    /// Evaluates a candidate, and keeps it in the lanes where it is the best.
    #[inline(always)]
    fn consider(&mut self, (scales, zeros): Candidate<L>) -> Sums<L> {
        let (mut s, mut z, mut inverse) = ([0f32; L], [0f32; L], [0f32; L]);
        for i in 0..L {
            s[i] = self.row_scale * scales[i];
            z[i] = self.zero_point(zeros[i]);
            inverse[i] = reciprocal(s[i]);
        }
        let tile = self.tile;
        let sums = Sums::of::<BITS>(tile, &inverse, &z);
        let mut error = [0f32; L];
        for i in 0..L {
            // sum (x - s (q - z))^2, without sum x^2, which is the same for all candidates.
            let cross = sums.xq[i] - z[i] * tile.x[i];
            let square = sums.qq[i] - 2.0 * z[i] * sums.q[i] + z[i] * z[i] * tile.n[i];
            let value = s[i] * (s[i] * square - 2.0 * cross);
            error[i] = if s[i] <= self.most[i] { value } else { f32::INFINITY };
        }
        let better = less(&error, &self.error);
        replace(&mut self.error, &error, &better);
        replace(&mut self.best.0, &scales, &better);
        replace(&mut self.best.1, &zeros, &better);
        replace(&mut self.sums.q, &sums.q, &better);
        replace(&mut self.sums.qq, &sums.qq, &better);
        replace(&mut self.sums.xq, &sums.xq, &better);
        sums
    }

    /// Returns the codes nearest to the least-squares scale and zero point for the codes that left `sums`.
    #[inline(always)]
    fn fitted(&self, sums: &Sums<L>) -> Candidate<L> {
        let (mut scales, mut zeros) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            let (n, x) = (self.tile.n[i], self.tile.x[i]);
            let (q, qq, xq) = (sums.q[i], sums.qq[i], sums.xq[i]);
            // x = slope * (q - z): z is where the line vanishes.
            let slope = (n * xq - x * q) * reciprocal(n * qq - q * q);
            zeros[i] = self.grid.zero_code::<BITS>((q - x * reciprocal(slope)) * self.tile.inverse_n[i]);
            // The scale is fitted to the zero point as rounded.
            let z = self.zero_point(zeros[i]);
            let fit = (xq - z * x) * reciprocal(qq - 2.0 * z * q + z * z * n);
            scales[i] = self.grid.nearest(max(fit, 0.0) * self.inverse_row_scale);
        }
        (scales, zeros)
    }

    /// Returns the best scale code moved by `step`, the zero point that fits there to the best codes moved by `shift`.
    #[inline(always)]
    fn moved(&self, step: i32, shift: f32) -> Candidate<L> {
        let (mut scales, mut zeros) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            scales[i] = self.grid.moved(self.best.0[i], step);
            let s = self.row_scale * scales[i];
            let z = (self.sums.q[i] - self.tile.x[i] * reciprocal(s)) * self.tile.inverse_n[i];
            zeros[i] = self.grid.zero_code::<BITS>(z + shift);
        }
        (scales, zeros)
    }

    /// Returns the covering scale times `shrink`, rounded by `round`; what is clipped is shared by the ends as `lean`
    /// says: -1 clips nothing at the low end, 1 nothing at the high end; beyond them the range is moved past that end.
    #[inline(always)]
    fn shrunk(&self, shrink: f32, lean: f32, round: impl Fn(f32) -> f32) -> Candidate<L> {
        let (mut scales, mut zeros) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            let (low, high) = (self.tile.low[i], self.tile.high[i]);
            let cover = covering_scale::<BITS>(low, high, self.symmetric);
            scales[i] = round(cover * shrink * self.inverse_row_scale);
            let inverse = reciprocal(self.row_scale * scales[i]);
            let (from_low, from_high) = (-low * inverse, max_code::<BITS>() - high * inverse);
            zeros[i] = self.grid.zero_code::<BITS>(((from_low + from_high) + lean * (from_high - from_low)) * 0.5);
        }
        (scales, zeros)
    }

    /// Considers every candidate of the schedule in turn.
    #[inline(always)]
    pub(super) fn run(&mut self, schedule: &[Step]) {
        let mut last = Sums::NONE;
        for step in schedule {
            // One call of `consider`, so that it is compiled once.
            let candidate = match *step {
                Step::Cover => self.shrunk(1.0, 0.0, |ratio| self.grid.up(ratio)),
                Step::Shrink(shrink, lean) => self.shrunk(shrink, lean, |ratio| self.grid.nearest(ratio)),
                Step::Fit => self.fitted(&last),
                Step::Refit => self.fitted(&self.sums),
                Step::Move(step, shift) => self.moved(step, shift),
            };
            last = self.consider(candidate);
        }
        self.settle();
    }

    /// Compares the best, by its error weight by weight, with what [`minmax`](fn@crate::kernels::minmax::minmax) may take,
    /// and keeps the least: only where the sums cancelled, in groups of nearly one value.
    #[inline(always)]
    fn settle(&mut self) {
        let mut cancels = false;
        for i in 0..L {
            let (s, z) = (self.row_scale * self.best.0[i], self.zero_point(self.best.1[i]));
            let terms = max(self.tile.xx[i], s * s * (z * z * self.tile.n[i]));
            cancels |= terms > 0.0 && self.error[i] + self.tile.xx[i] < CANCELS * terms;
        }
        if !cancels {
            return;
        }
        let (mut least, mut best) = ([f32::INFINITY; L], self.best);
        for number in 0..3 {
            let candidate = match number {
                0 => self.shrunk(1.0, 0.0, |ratio| self.grid.up(ratio)),
                1 => self.shrunk(1.0, 0.0, |ratio| self.grid.nearest(ratio)),
                _ => self.best,
            };
            let (mut s, mut z) = ([0f32; L], [0f32; L]);
            for i in 0..L {
                s[i] = self.row_scale * candidate.0[i];
                z[i] = self.zero_point(candidate.1[i]);
            }
            let errors = errors::<BITS, L>(self.tile, &s, &z);
            let better = less(&errors, &least);
            replace(&mut least, &errors, &better);
            replace(&mut best.0, &candidate.0, &better);
            replace(&mut best.1, &candidate.1, &better);
        }
        self.best = best;
        let (mut inverse, mut z) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            inverse[i] = reciprocal(self.row_scale * self.best.0[i]);
            z[i] = self.zero_point(self.best.1[i]);
        }
        self.sums = Sums::of::<BITS>(self.tile, &inverse, &z);
    }
}
