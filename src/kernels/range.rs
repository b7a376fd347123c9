//! The range of each group, zero included, and the scale that just covers it.

use super::{
    dispatch::kernel,
    lanes::{each, fold, max, min},
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

kernel! {
    /// Writes the range of each group of `weights`, zero included, into `lows` and `highs`.
    ///
    /// ```
    /// let (mut lows, mut highs) = ([9.0; 2], [9.0; 2]);
    /// arrow_quant::kernels::range::group_ranges(&[1.0, 2.0, -3.0], 2, &mut lows, &mut highs);
    /// assert_eq!((lows, highs), ([0.0, -3.0], [2.0, 0.0]));
    /// ```
    pub fn group_ranges(weights: &[f32], group_size: usize, lows: &mut [f32], highs: &mut [f32]) {
        for ((group, low), high) in weights.chunks(group_size.max(1)).zip(lows).zip(highs) {
            (*low, *high) = group_range(group);
        }
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
