//! The range of each group, zero included, and the scale that just covers it.

use super::params::{max_code, middle};
use crate::kernels::{
    dispatch::kernel,
    lanes::{each, fold, halve, max, min},
};

/// Returns the least of a group and zero, given what [`min`] makes of the group. A group's -0.0 may be the least so
/// far, and the sum turns it to 0.0. `min(least, 0.0)` would say the same, but LLVM compiles it to fminnm on 64-bit
/// Arm, which takes -0.0 for the lesser.
#[inline(always)]
fn least_with_zero(least: f32) -> f32 {
    min(0.0, least) + 0.0
}

/// Returns the least and the largest of a group and zero.
#[inline(always)]
pub(in crate::kernels) fn group_range(group: &[f32]) -> (f32, f32) {
    const LANES: usize = 32;
    let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
    each::<_, LANES>(group, |lane, x| {
        low[lane] = min(low[lane], x);
        high[lane] = max(x, high[lane]);
    });
    (least_with_zero(fold(low, min)), fold(high, max))
}

/// Returns the least scale at which the codes reach from `low` to `high`, where there is a zero point and where there
/// is none.
#[inline(always)]
pub(in crate::kernels) fn covering_scale<const BITS: usize>(low: f32, high: f32, symmetric: bool) -> f32 {
    if symmetric {
        max(high / (middle::<BITS>() - 1.0), -low / middle::<BITS>())
    } else {
        (high - low) / max_code::<BITS>()
    }
}

/// Groups whose ranges are folded together.
const BATCH: usize = 64;

/// Lanes that a group is folded to by itself: below four, folding would need shuffles in registers.
const PARTS: usize = 4;

/// Returns the least and the largest of each of [`PARTS`] parts of a group; `rest` is the end of a group that does not fill all
/// lanes.
#[inline(always)]
fn partial_range(group: &[[f32; 32]], rest: &[f32]) -> ([f32; PARTS], [f32; PARTS]) {
    let (first, group) = group.split_first().unwrap_or((&[0f32; 32], &[]));
    let (mut low, mut high) = (*first, *first);
    for chunk in group {
        for i in 0..32 {
            low[i] = min(chunk[i], low[i]);
            high[i] = max(chunk[i], high[i]);
        }
    }
    let (low, high): ([_; 16], [_; 16]) = (halve(&low, min), halve(&high, max));
    let (low, high): ([_; 8], [_; 8]) = (halve(&low, min), halve(&high, max));
    let (mut low, mut high): ([_; PARTS], [_; PARTS]) = (halve(&low, min), halve(&high, max));
    each::<_, PARTS>(rest, |lane, x| {
        low[lane] = min(x, low[lane]);
        high[lane] = max(x, high[lane]);
    });
    (low, high)
}

#[inline(always)]
fn batch_ranges(weights: &[f32], group_size: usize, lows: &mut [f32], highs: &mut [f32]) {
    let (mut low, mut high) = ([[0f32; PARTS]; BATCH], [[0f32; PARTS]; BATCH]);
    if group_size.is_multiple_of(32) && weights.len().is_multiple_of(group_size) {
        // Apart, so that accumulators that nothing indexes stay in registers.
        for ((group, low), high) in weights.chunks_exact(group_size).zip(&mut low).zip(&mut high) {
            (*low, *high) = partial_range(group.as_chunks().0, &[]);
        }
    } else {
        for ((group, low), high) in weights.chunks(group_size).zip(&mut low).zip(&mut high) {
            let (group, rest) = group.as_chunks();
            (*low, *high) = partial_range(group, rest);
        }
    }
    for (out, parts) in lows.iter_mut().zip(&low) {
        *out = least_with_zero(min(min(parts[0], parts[2]), min(parts[1], parts[3])));
    }
    for (out, parts) in highs.iter_mut().zip(&high) {
        *out = max(max(max(parts[0], parts[2]), max(parts[1], parts[3])), 0.0);
    }
}

/// Fills `lows` and `highs` with the range of each group.
#[inline(always)]
pub(in crate::kernels) fn ranges(weights: &[f32], group_size: usize, lows: &mut [f32], highs: &mut [f32]) {
    let group_size = group_size.max(1);
    let batches = weights.chunks(group_size.saturating_mul(BATCH));
    for ((batch, lows), highs) in batches.zip(lows.chunks_mut(BATCH)).zip(highs.chunks_mut(BATCH)) {
        batch_ranges(batch, group_size, lows, highs);
    }
}

kernel! {
    /// Writes the range of each group of `weights`, zero included, into `lows` and `highs`. `weights` are finite: a NaN may
    /// hide its neighbours.
    ///
    /// ```
    /// let (mut lows, mut highs) = ([9.0; 2], [9.0; 2]);
    /// arrow_quant::kernels::range::group_ranges(&[1.0, 2.0, -3.0], 2, &mut lows, &mut highs);
    /// assert_eq!((lows, highs), ([0.0, -3.0], [2.0, 0.0]));
    /// ```
    pub fn group_ranges(weights: &[f32], group_size: usize, lows: &mut [f32], highs: &mut [f32]) {
        ranges(weights, group_size, lows, highs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples};

    #[test]
    fn every_target_finds_the_range_of_every_group() {
        for row in samples::rows() {
            for group_size in [1, 3, 32, 128, usize::MAX] {
                for target in Target::available() {
                    let groups = row.len().div_ceil(group_size);
                    let (mut lows, mut highs) = (vec![f32::NAN; groups], vec![f32::NAN; groups]);
                    group_ranges::on(target, &row, group_size, &mut lows, &mut highs);
                    for ((group, low), high) in row.chunks(group_size).zip(lows).zip(highs) {
                        assert_eq!(
                            low.to_bits(),
                            group.iter().fold(0f32, |m, x| if *x < m { *x } else { m }).to_bits()
                        );
                        assert_eq!(
                            high.to_bits(),
                            group.iter().fold(0f32, |m, x| if *x > m { *x } else { m }).to_bits()
                        );
                    }
                }
            }
        }
    }
}
