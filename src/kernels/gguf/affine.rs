//! Scales and minimums of `Q2_K`, `Q4_K` and `Q5_K`: `weight = d * scale * code - dmin * min`.
//!
//! One sub-block per lane. First the best real scale and minimum of each, by shrinking its range and by least squares;
//! then codes for them relative to `d` and `dmin`, which a super-block shares, moved to where the error as decoded is
//! least; then `d` and `dmin` fitted to these codes.

use super::{
    super::{
        lanes::{less, max, min, replace},
        params::{max_code, reciprocal, round_clamped_f32},
        search::{
            sums::{Sums, block_errors},
            tile::{Lane, Tile},
        },
    },
    super_block::{CANCELS, as_half, covering_half, together, total},
};

/// The way to make the next candidate.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The range shrunk, leaning to an end: -1 clips nothing at the low end, 1 nothing at the high end.
    Shrink(f32, f32),
    /// The fit to the candidate before.
    Fit,
    /// Codes for the best real scales and minimums, the largest of each times a factor being the last code.
    Round(f32, f32),
    /// Codes for the range of each sub-block: what the search must not lose to.
    Range,
    /// The best codes moved; the minimum is that of the best fit plus the second.
    Move(f32, f32),
    /// `d` and `dmin` fitted to the best codes.
    Rescale,
}

/// Scale and minimum of each lane, in units of `d` and `dmin`.
#[derive(Clone, Copy)]
pub(super) struct Candidate<const L: usize> {
    pub scale: Lane<L>,
    pub min: Lane<L>,
    pub d: Lane<L>,
    pub dmin: Lane<L>,
}

impl<const L: usize> Candidate<L> {
    const NONE: Self = Self { scale: [0.0; L], min: [0.0; L], d: [1.0; L], dmin: [1.0; L] };

    /// Returns scale and minimum as they decode, the inverse of the scale, and the zero point.
    #[inline(always)]
    fn decoded(&self) -> [Lane<L>; 4] {
        let (mut s, mut m, mut inverse, mut z) = ([0f32; L], [0f32; L], [0f32; L], [0f32; L]);
        for i in 0..L {
            s[i] = self.d[i] * self.scale[i];
            m[i] = self.dmin[i] * self.min[i];
            inverse[i] = reciprocal(s[i]);
            z[i] = m[i] * inverse[i];
        }
        [s, m, inverse, z]
    }
}

/// `SCALES` is the largest code of a scale and of a minimum, `TOGETHER` the lanes of a super-block.
struct Search<'t, const BITS: usize, const SCALES: usize, const TOGETHER: usize, const L: usize> {
    tile: &'t Tile<'t, L>,
    error: Lane<L>,
    best: Candidate<L>,
    /// The sums of the best.
    sums: Sums<L>,
    /// The best before rounding, and what it left.
    real: Option<(Candidate<L>, Sums<L>)>,
}

impl<const BITS: usize, const SCALES: usize, const TOGETHER: usize, const L: usize>
    Search<'_, BITS, SCALES, TOGETHER, L>
{
    /// Evaluates a candidate, and keeps it where it is the best: in each lane, or in super-blocks as a whole.
    #[inline(always)]
    fn consider(&mut self, candidate: &Candidate<L>, whole: bool) -> Sums<L> {
        let [s, m, inverse, z] = candidate.decoded();
        let sums = Sums::of::<BITS>(self.tile, &inverse, &z);
        let mut error = [0f32; L];
        for i in 0..L {
            // sum (x - s q + m)^2, without sum x^2, which is the same for all candidates.
            let (n, x) = (self.tile.n[i], self.tile.x[i]);
            error[i] = s[i] * (s[i] * sums.qq[i] - 2.0 * (sums.xq[i] + m[i] * sums.q[i])) + m[i] * (m[i] * n + 2.0 * x);
        }
        let (now, before) =
            if whole { (total::<TOGETHER, L>(&error), total::<TOGETHER, L>(&self.error)) } else { (error, self.error) };
        let better = less(&now, &before);
        replace(&mut self.error, &error, &better);
        replace(&mut self.best.scale, &candidate.scale, &better);
        replace(&mut self.best.min, &candidate.min, &better);
        replace(&mut self.best.d, &candidate.d, &better);
        replace(&mut self.best.dmin, &candidate.dmin, &better);
        replace(&mut self.sums.q, &sums.q, &better);
        replace(&mut self.sums.qq, &sums.qq, &better);
        replace(&mut self.sums.xq, &sums.xq, &better);
        sums
    }

    #[inline(always)]
    fn shrunk(&self, shrink: f32, lean: f32) -> Candidate<L> {
        let mut candidate = Candidate::NONE;
        for i in 0..L {
            let (low, high) = (self.tile.low[i], self.tile.high[i]);
            let scale = (high - low) * (shrink / max_code::<BITS>());
            let (from_low, from_high) = (-low, scale * max_code::<BITS>() - high);
            candidate.scale[i] = scale;
            candidate.min[i] = max(((from_low + from_high) + lean * (from_high - from_low)) * 0.5, 0.0);
        }
        candidate
    }

    /// Returns the real scale and minimum of least squares for the codes that left `sums`.
    #[inline(always)]
    fn fitted(&self, sums: &Sums<L>) -> Candidate<L> {
        let mut candidate = Candidate::NONE;
        for i in 0..L {
            let (n, x) = (self.tile.n[i], self.tile.x[i]);
            let (q, qq, xq) = (sums.q[i], sums.qq[i], sums.xq[i]);
            let slope = (n * xq - x * q) * reciprocal(n * qq - q * q);
            let min = (slope * q - x) * self.tile.inverse_n[i];
            let through_zero = xq * reciprocal(qq);
            candidate.scale[i] = if min > 0.0 { slope } else { through_zero };
            candidate.min[i] = max(min, 0.0);
        }
        candidate
    }

    /// Returns the code of the minimum that fits best to the codes that left `sums`, at the scale given.
    #[inline(always)]
    fn min_code(&self, sums: &Sums<L>, i: usize, scale: f32, inverse_dmin: f32, shift: f32) -> f32 {
        let min = max((scale * sums.q[i] - self.tile.x[i]) * self.tile.inverse_n[i], 0.0);
        round_clamped_f32(min * inverse_dmin + shift, SCALES as f32)
    }

    #[inline(always)]
    fn rounded(&self, real: &(Candidate<L>, Sums<L>), scale_factor: f32, min_factor: f32) -> Candidate<L> {
        let (real, sums) = real;
        let mut candidate = Candidate::NONE;
        let most_scale = together::<TOGETHER, L>(&real.scale, max);
        let most_min = together::<TOGETHER, L>(&real.min, max);
        for i in 0..L {
            candidate.d[i] = covering_half(most_scale[i] * (scale_factor / SCALES as f32));
            candidate.dmin[i] = covering_half(most_min[i] * (min_factor / SCALES as f32));
            let scale = round_clamped_f32(real.scale[i] * reciprocal(candidate.d[i]), SCALES as f32);
            candidate.scale[i] = scale;
            let inverse = reciprocal(candidate.dmin[i]);
            candidate.min[i] = self.min_code(sums, i, scale * candidate.d[i], inverse, 0.0);
        }
        candidate
    }

    /// Returns the range of each sub-block, rounded to codes.
    #[inline(always)]
    fn range(&self) -> Candidate<L> {
        let real = self.shrunk(1.0, 0.0);
        let mut candidate = Candidate::NONE;
        let most_scale = together::<TOGETHER, L>(&real.scale, max);
        let most_min = together::<TOGETHER, L>(&real.min, max);
        for i in 0..L {
            candidate.d[i] = covering_half(most_scale[i] / SCALES as f32);
            candidate.dmin[i] = covering_half(most_min[i] / SCALES as f32);
            candidate.scale[i] = round_clamped_f32(real.scale[i] * reciprocal(candidate.d[i]), SCALES as f32);
            candidate.min[i] = round_clamped_f32(real.min[i] * reciprocal(candidate.dmin[i]), SCALES as f32);
        }
        candidate
    }

    #[inline(always)]
    fn moved(&self, scale: f32, min: f32) -> Candidate<L> {
        let mut candidate = self.best;
        for i in 0..L {
            let code = round_clamped_f32(self.best.scale[i] + scale, SCALES as f32);
            candidate.scale[i] = code;
            let inverse = reciprocal(self.best.dmin[i]);
            candidate.min[i] = self.min_code(&self.sums, i, code * self.best.d[i], inverse, min);
        }
        candidate
    }

    /// Fits by least squares of `sum (x - d scale q + dmin min)^2` over a super-block.
    #[inline(always)]
    fn rescaled(&self) -> Candidate<L> {
        let mut candidate = self.best;
        let (mut a, mut b, mut c, mut p, mut r) = ([0f32; L], [0f32; L], [0f32; L], [0f32; L], [0f32; L]);
        for i in 0..L {
            let (scale, min) = (self.best.scale[i], self.best.min[i]);
            a[i] = scale * scale * self.sums.qq[i];
            b[i] = scale * min * self.sums.q[i];
            c[i] = min * min * self.tile.n[i];
            p[i] = scale * self.sums.xq[i];
            r[i] = min * self.tile.x[i];
        }
        let total = total::<TOGETHER, L>;
        let (a, b, c, p, r) = (total(&a), total(&b), total(&c), total(&p), total(&r));
        for i in 0..L {
            let inverse = reciprocal(a[i] * c[i] - b[i] * b[i]);
            let (d, dmin) = ((p[i] * c[i] - b[i] * r[i]) * inverse, (b[i] * p[i] - a[i] * r[i]) * inverse);
            // Without minimums, or with those that would be negative, the scale alone is fitted.
            let alone = max((p[i] + candidate.dmin[i] * b[i]) * reciprocal(a[i]), 0.0);
            let fits = min(d, dmin) > 0.0;
            candidate.d[i] = as_half(if fits { d } else { alone });
            candidate.dmin[i] = as_half(if fits { dmin } else { candidate.dmin[i] });
        }
        candidate
    }

    #[inline(always)]
    fn run(&mut self, steps: &[Step]) {
        let mut last = Sums::NONE;
        for step in steps {
            // One call of `consider`, so that it is compiled once.
            let (candidate, whole) = match *step {
                Step::Shrink(shrink, lean) => (self.shrunk(shrink, lean), false),
                Step::Fit => (self.fitted(&last), false),
                Step::Round(scale, min) => {
                    if self.real.is_none() {
                        self.real = Some((self.best, self.sums));
                        self.error = [f32::INFINITY; L];
                        self.best = Candidate::NONE;
                    }
                    let real = self.real.unwrap_or((Candidate::NONE, Sums::NONE));
                    (self.rounded(&real, scale, min), true)
                }
                Step::Range => (self.range(), true),
                Step::Move(scale, min) => (self.moved(scale, min), false),
                Step::Rescale => (self.rescaled(), true),
            };
            last = self.consider(&candidate, whole);
        }
        self.settle();
    }

    /// Compares the best with the range in super-blocks where the sums cancelled, by errors weight by weight.
    #[inline(always)]
    fn settle(&mut self) {
        let mut cancels = false;
        for i in 0..L {
            let (s, m) = (self.best.d[i] * self.best.scale[i], self.best.dmin[i] * self.best.min[i]);
            let terms = max(self.tile.xx[i], max(s * s * self.sums.qq[i], m * m * self.tile.n[i]));
            cancels |= terms > 0.0 && self.error[i] + self.tile.xx[i] < CANCELS * terms;
        }
        if !cancels {
            return;
        }
        let range = self.range();
        let better = less(&self.measured(&range), &self.measured(&self.best));
        replace(&mut self.best.scale, &range.scale, &better);
        replace(&mut self.best.min, &range.min, &better);
        replace(&mut self.best.d, &range.d, &better);
        replace(&mut self.best.dmin, &range.dmin, &better);
    }

    /// Returns the error of each super-block, weight by weight.
    #[inline(always)]
    fn measured(&self, candidate: &Candidate<L>) -> Lane<L> {
        let [s, m, inverse, z] = candidate.decoded();
        total::<TOGETHER, L>(&block_errors::<BITS, L>(self.tile, &inverse, &z, &s, &m))
    }
}

/// Returns the best candidate of a schedule.
#[inline(always)]
pub(super) fn search<const BITS: usize, const SCALES: usize, const TOGETHER: usize, const L: usize>(
    tile: &Tile<L>,
    steps: &[Step],
) -> Candidate<L> {
    let mut search = Search::<BITS, SCALES, TOGETHER, L> {
        tile,
        error: [f32::INFINITY; L],
        best: Candidate::NONE,
        sums: Sums::NONE,
        real: None,
    };
    search.run(steps);
    search.best
}
