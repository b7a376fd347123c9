//! Scales of `Q3_K` and `Q6_K`: `weight = d * scale * (code - middle)`, scales of either sign.
//!
//! One sub-block per lane, a super-block in all lanes; the steps are those of the affine types.

use std::array::from_fn;

use super::{
    super::{
        lanes::{less, max, min, replace},
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
    /// The scale at which the extreme is code 0, times a factor; at a negative factor it is the last code.
    Shrink(f32),
    /// The fit to the candidate before.
    Fit,
    /// Codes for the best real scales, the largest times a factor being the least code.
    Round(f32),
    /// Codes for the range of each sub-block: what the search must not lose to.
    Range,
    /// The best codes moved.
    Move(f32),
    /// `d` fitted to the best codes.
    Rescale,
}

/// Lanes of a super-block.
const TOGETHER: usize = 16;

/// The scale of each lane, in units of `d`.
#[derive(Clone, Copy)]
pub(super) struct Candidate<const L: usize> {
    pub scale: Lane<L>,
    pub d: Lane<L>,
}

impl<const L: usize> Candidate<L> {
    const NONE: Self = Self { scale: [0.0; L], d: [1.0; L] };
}

/// Returns `1 / s` for either sign; 0 where there is none, so that every code is the middle.
#[inline(always)]
pub(super) fn signed_reciprocal(s: f32) -> f32 {
    if s.abs() >= f32::MIN_POSITIVE { 1.0 / s } else { 0.0 }
}

/// Added to a number of magnitude below `2^22`, this leaves its nearest integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Returns the nearest integer from `-SCALES` to `SCALES - 1`.
#[inline(always)]
fn round<const SCALES: usize>(x: f32) -> f32 {
    (max(min(x, SCALES as f32 - 1.0), -(SCALES as f32)) + ROUND) - ROUND
}

/// `SCALES` is what the least code of a scale is the negative of.
struct Search<'t, const BITS: usize, const SCALES: usize, const L: usize> {
    tile: &'t Tile<'t, L>,
    error: Lane<L>,
    best: Candidate<L>,
    /// The remainders of the best: sums of `x (q - z)` and `(q - z)^2`.
    sums: (Lane<L>, Lane<L>),
    /// The best scales before rounding.
    real: Option<Lane<L>>,
}

impl<const BITS: usize, const SCALES: usize, const L: usize> Search<'_, BITS, SCALES, L> {
    const MIDDLE: f32 = (1u32 << (BITS - 1)) as f32;

    #[inline(always)]
    fn consider(&mut self, candidate: &Candidate<L>, whole: bool) -> (Lane<L>, Lane<L>) {
        let (mut s, mut inverse) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            s[i] = candidate.d[i] * candidate.scale[i];
            inverse[i] = signed_reciprocal(s[i]);
        }
        let sums = Sums::of::<BITS>(self.tile, &inverse, &[Self::MIDDLE; L]);
        let (mut cross, mut square, mut error) = ([0f32; L], [0f32; L], [0f32; L]);
        for i in 0..L {
            let z = Self::MIDDLE;
            cross[i] = sums.xq[i] - z * self.tile.x[i];
            square[i] = sums.qq[i] - 2.0 * z * sums.q[i] + z * z * self.tile.n[i];
            error[i] = s[i] * (s[i] * square[i] - 2.0 * cross[i]);
        }
        let (now, before) =
            if whole { (total::<TOGETHER, L>(&error), total::<TOGETHER, L>(&self.error)) } else { (error, self.error) };
        let better = less(&now, &before);
        replace(&mut self.error, &error, &better);
        replace(&mut self.best.scale, &candidate.scale, &better);
        replace(&mut self.best.d, &candidate.d, &better);
        replace(&mut self.sums.0, &cross, &better);
        replace(&mut self.sums.1, &square, &better);
        (cross, square)
    }

    #[inline(always)]
    fn shrunk(&self, factor: f32) -> Candidate<L> {
        let mut candidate = Candidate::NONE;
        for i in 0..L {
            let (low, high) = (self.tile.low[i], self.tile.high[i]);
            let extreme = if -low > high { low } else { high };
            let steps = if factor < 0.0 { Self::MIDDLE - 1.0 } else { Self::MIDDLE };
            candidate.scale[i] = extreme * (-factor / steps);
        }
        candidate
    }

    #[inline(always)]
    fn fitted(sums: &(Lane<L>, Lane<L>)) -> Candidate<L> {
        let mut candidate = Candidate::NONE;
        for i in 0..L {
            candidate.scale[i] = sums.0[i] * signed_reciprocal(sums.1[i]);
        }
        candidate
    }

    #[inline(always)]
    fn rounded(real: &Lane<L>, factor: f32) -> Candidate<L> {
        let mut candidate = Candidate::NONE;
        let (low, high) = (together::<TOGETHER, L>(real, min), together::<TOGETHER, L>(real, max));
        let most: Lane<L> = from_fn(|i| if -low[i] > high[i] { low[i] } else { high[i] });
        for i in 0..L {
            candidate.d[i] = covering_half(most[i] * (-factor / SCALES as f32));
            candidate.scale[i] = round::<SCALES>(real[i] * signed_reciprocal(candidate.d[i]));
        }
        candidate
    }

    #[inline(always)]
    fn moved(&self, by: f32) -> Candidate<L> {
        let mut candidate = self.best;
        for scale in &mut candidate.scale {
            *scale = round::<SCALES>(*scale + by);
        }
        candidate
    }

    #[inline(always)]
    fn rescaled(&self) -> Candidate<L> {
        let mut candidate = self.best;
        let (mut cross, mut square) = ([0f32; L], [0f32; L]);
        for i in 0..L {
            let scale = self.best.scale[i];
            cross[i] = scale * self.sums.0[i];
            square[i] = scale * scale * self.sums.1[i];
        }
        let (cross, square) = (total::<TOGETHER, L>(&cross), total::<TOGETHER, L>(&square));
        for i in 0..L {
            candidate.d[i] = as_half(cross[i] * signed_reciprocal(square[i]));
        }
        candidate
    }

    #[inline(always)]
    fn run(&mut self, steps: &[Step]) {
        let mut last = ([0.0; L], [0.0; L]);
        for step in steps {
            let (candidate, whole) = match *step {
                Step::Shrink(factor) => (self.shrunk(factor), false),
                Step::Fit => (Self::fitted(&last), false),
                Step::Round(factor) => {
                    if self.real.is_none() {
                        self.real = Some(self.best.scale);
                        self.error = [f32::INFINITY; L];
                    }
                    (Self::rounded(&self.real.unwrap_or([0.0; L]), factor), true)
                }
                Step::Range => (Self::rounded(&self.shrunk(1.0).scale, 1.0), true),
                Step::Move(by) => (self.moved(by), false),
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
            let zero = self.best.d[i] * self.best.scale[i] * Self::MIDDLE;
            let terms = max(self.tile.xx[i], zero * zero * self.tile.n[i]);
            cancels |= terms > 0.0 && self.error[i] + self.tile.xx[i] < CANCELS * terms;
        }
        if !cancels {
            return;
        }
        let range = Self::rounded(&self.shrunk(1.0).scale, 1.0);
        let better = less(&self.measured(&range), &self.measured(&self.best));
        replace(&mut self.best.scale, &range.scale, &better);
        replace(&mut self.best.d, &range.d, &better);
    }

    /// Returns the error of each super-block, weight by weight.
    #[inline(always)]
    fn measured(&self, candidate: &Candidate<L>) -> Lane<L> {
        let (mut s, mut m, mut inverse) = ([0f32; L], [0f32; L], [0f32; L]);
        for i in 0..L {
            s[i] = candidate.d[i] * candidate.scale[i];
            m[i] = s[i] * Self::MIDDLE;
            inverse[i] = signed_reciprocal(s[i]);
        }
        total::<TOGETHER, L>(&block_errors::<BITS, L>(self.tile, &inverse, &[Self::MIDDLE; L], &s, &m))
    }
}

/// Returns the best candidate of a schedule.
#[inline(always)]
pub(super) fn search<const BITS: usize, const SCALES: usize, const L: usize>(
    tile: &Tile<L>,
    steps: &[Step],
) -> Candidate<L> {
    let mut search = Search::<BITS, SCALES, L> {
        tile,
        error: [f32::INFINITY; L],
        best: Candidate::NONE,
        sums: ([0.0; L], [0.0; L]),
        real: None,
    };
    search.run(steps);
    search.best
}
