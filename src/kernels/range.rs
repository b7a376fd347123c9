//! The range of each group, zero included, and the scale that just covers it.

use super::{
    dispatch::kernel,
    lanes::{each, fold, fold_rows, max, min},
    params::{max_code, middle},
};

/// The least and the largest of a group and zero.
#[inline(always)]
pub(super) fn group_range(group: &[f32]) -> (f32, f32) {
    const LANES: usize = 32;
    let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
    each::<_, LANES>(group, |lane, x| {
        low[lane] = min(x, low[lane]);
        high[lane] = max(x, high[lane]);
    });
    (fold(low, min), fold(high, max))
}

/// The least scale at which the codes reach from `low` to `high`, where there is a zero point and where there is none.
#[inline(always)]
pub(super) fn covering_scale<const BITS: usize>(low: f32, high: f32, symmetric: bool) -> f32 {
    if symmetric {
        max(high / (middle::<BITS>() - 1.0), -low / middle::<BITS>())
    } else {
        (high - low) / max_code::<BITS>()
    }
}

/// Fills `lows` and `highs` with the range of each group.
#[inline(always)]
pub(super) fn ranges(weights: &[f32], group_size: usize, lows: &mut [f32], highs: &mut [f32]) {
    const N: usize = 8;
    let group_size = group_size.max(1);
    let mut done = 0;
    // Eight groups at a time are folded together: for groups of 32 that is four times as fast.
    if group_size.is_multiple_of(2 * N) && group_size <= 512 {
        let (low_parts, high_parts) = (lows.as_chunks_mut::<N>().0, highs.as_chunks_mut::<N>().0);
        for ((part, low_part), high_part) in weights.chunks_exact(N * group_size).zip(low_parts).zip(high_parts) {
            let (mut low, mut high) = ([[0f32; N]; N], [[0f32; N]; N]);
            for ((group, low), high) in part.chunks_exact(group_size).zip(&mut low).zip(&mut high) {
                // Two registers in flight, against the latency of min and max.
                let (mut second_low, mut second_high) = ([0f32; N], [0f32; N]);
                for row in group.as_chunks::<{ 2 * N }>().0 {
                    for i in 0..N {
                        low[i] = min(row[i], low[i]);
                        high[i] = max(row[i], high[i]);
                        second_low[i] = min(row[i + N], second_low[i]);
                        second_high[i] = max(row[i + N], second_high[i]);
                    }
                }
                for i in 0..N {
                    low[i] = min(second_low[i], low[i]);
                    high[i] = max(second_high[i], high[i]);
                }
            }
            *low_part = fold_rows(low, min);
            *high_part = fold_rows(high, max);
            done += N;
        }
    }
    for ((group, low), high) in weights.chunks(group_size).zip(lows).zip(highs).skip(done) {
        (*low, *high) = group_range(group);
    }
}

kernel! {
    /// Writes the range of each group of `weights`, zero included, into `lows` and `highs`.
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
    use crate::kernels::{dispatch::Target, samples};

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
