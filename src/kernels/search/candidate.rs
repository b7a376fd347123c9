//! Candidates for scale and zero point: how they are made, and what they are worth.

use super::{
    grid::Grid,
    schedule::Step,
    tile::{LANES, Lane, Tile},
};
use crate::kernels::{
    lanes::max,
    params::{max_code, middle, reciprocal, round_clamped_f32},
    range::covering_scale,
};

/// For each lane a factor of the grid, and a zero-point code, both as f32 so that they stay in its registers.
pub(super) type Candidate = (Lane, Lane);

/// What a candidate leaves: sums over the codes `q` that it gives.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Sums {
    pub q: Lane,
    pub qq: Lane,
    pub xq: Lane,
}

impl Sums {
    pub(in crate::kernels) const NONE: Self = Self { q: [0.0; LANES], qq: [0.0; LANES], xq: [0.0; LANES] };

    /// Of the codes of all weights of a tile, for an inverse scale and a zero point.
    #[inline(always)]
    pub(in crate::kernels) fn of<const BITS: usize>(tile: &Tile, inverse: &Lane, z: &Lane) -> Self {
        let mut sums = Self::NONE;
        if let Some((x, weight)) = &tile.tail {
            sums.add::<BITS>(x, Some(weight), inverse, z);
        }
        match tile.importance {
            None => {
                for x in tile.weights {
                    sums.add::<BITS>(x, None, inverse, z);
                }
            }
            Some(importance) => {
                for (x, weight) in tile.weights.iter().zip(importance) {
                    sums.add::<BITS>(x, Some(weight), inverse, z);
                }
            }
        }
        Self { q: tile.total(sums.q), qq: tile.total(sums.qq), xq: tile.total(sums.xq) }
    }

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
pub(super) struct Search<'t, const BITS: usize, G> {
    pub tile: &'t Tile<'t>,
    grid: G,
    symmetric: bool,
    row_scale: f32,
    inverse_row_scale: f32,
    error: Lane,
    pub best: Candidate,
    /// What the best left.
    pub sums: Sums,
}

impl<'t, const BITS: usize, G: Grid> Search<'t, BITS, G> {
    #[inline(always)]
    pub(super) fn new(tile: &'t Tile<'t>, grid: G, row_scale: f32, symmetric: bool) -> Self {
        Self {
            tile,
            grid,
            symmetric,
            row_scale,
            inverse_row_scale: reciprocal(row_scale),
            error: [f32::INFINITY; LANES],
            best: ([0.0; LANES], [0.0; LANES]),
            sums: Sums::NONE,
        }
    }

    #[inline(always)]
    pub(super) fn zero_point(&self, code: f32) -> f32 {
        if self.symmetric { middle::<BITS>() } else { self.grid.zero_point::<BITS>(code) }
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
        let sums = Sums::of::<BITS>(tile, &inverse, &z);
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
            zeros[i] = self.grid.zero_code::<BITS>((q - x * reciprocal(slope)) * self.tile.inverse_n[i]);
            // The scale is fitted to the zero point as rounded.
            let z = self.zero_point(zeros[i]);
            let fit = (xq - z * x) * reciprocal(qq - 2.0 * z * q + z * z * n);
            scales[i] = self.grid.nearest(max(fit, 0.0) * self.inverse_row_scale);
        }
        (scales, zeros)
    }

    /// The best scale code moved by `step`, the zero point that fits there to the best codes moved by `shift`.
    #[inline(always)]
    fn moved(&self, step: i32, shift: f32) -> Candidate {
        let (mut scales, mut zeros) = ([0f32; LANES], [0f32; LANES]);
        for i in 0..LANES {
            scales[i] = self.grid.moved(self.best.0[i], step);
            let s = self.row_scale * scales[i];
            let z = (self.sums.q[i] - self.tile.x[i] * reciprocal(s)) * self.tile.inverse_n[i];
            zeros[i] = self.grid.zero_code::<BITS>(z + shift);
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
    }
}
