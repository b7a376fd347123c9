//! Parts of the searches of super-blocks: scales that are halves, and folds over the lanes of a super-block.

use super::super::{lanes::fold, narrow, search::tile::Lane, widen};

/// Returns the nearest number that an f16 holds.
#[inline(always)]
pub(super) fn as_half(x: f32) -> f32 {
    widen::half(narrow::half(x))
}

/// The least normal f16.
pub(super) const LEAST_NORMAL: f32 = 1.0 / 16_384.0;

/// Rounds as [`as_half`] does; below the normal numbers, whose steps are wide, the next of no smaller magnitude: codes
/// relative to it reach as far, and nothing but 0 becomes 0.
#[inline(always)]
pub(super) fn covering_half(x: f32) -> f32 {
    let (near, step) = (as_half(x), LEAST_NORMAL / 1024.0);
    let further = if x < 0.0 { near - step } else { near + step };
    if near.abs() < x.abs() && x.abs() < LEAST_NORMAL { further } else { near }
}

/// The share of its terms below which an error is no longer told by sums: they cancel, and what is left is rounding. Errors
/// of `Q6_K` come to ten times as much.
pub(super) const CANCELS: f32 = 3e-5;

/// Folds the lanes of each super-block, `TOGETHER` of them; every lane gets the result.
#[inline(always)]
pub(super) fn together<const TOGETHER: usize, const L: usize>(lanes: &Lane<L>, f: impl Fn(f32, f32) -> f32) -> Lane<L> {
    let mut folded = [0.0; L];
    for (folded, lanes) in folded.as_chunks_mut::<TOGETHER>().0.iter_mut().zip(lanes.as_chunks::<TOGETHER>().0) {
        *folded = [fold(*lanes, &f); TOGETHER];
    }
    folded
}

#[inline(always)]
pub(super) fn total<const TOGETHER: usize, const L: usize>(lanes: &Lane<L>) -> Lane<L> {
    together::<TOGETHER, L>(lanes, |a, b| a + b)
}
