//! The largest magnitude of a row, and the first element that is not finite.

use crate::kernels::{
    dispatch::kernel,
    lanes::{each, fold},
};

kernel! {
    /// Returns the bits of the largest magnitude in `row`; 0 for an empty one.
    ///
    /// Magnitudes of f32 order as integers, infinities and NaN above all numbers: the row is finite
    /// exactly when the result is below `f32::INFINITY.to_bits()`.
    ///
    /// ```
    /// use arrow_quant::kernels::finite::absmax_bits;
    ///
    /// assert_eq!(f32::from_bits(absmax_bits(&[1.0, -3.0, 2.0])), 3.0);
    /// assert!(f32::from_bits(absmax_bits(&[1.0, f32::NAN])).is_nan());
    /// ```
    pub fn absmax_bits(row: &[f32]) -> u32 {
        const LANES: usize = 64;
        let mut lanes = [0i32; LANES];
        each::<_, LANES>(row, |lane, x| {
            let bits = (x.to_bits() & 0x7fff_ffff) as i32;
            lanes[lane] = if bits > lanes[lane] { bits } else { lanes[lane] };
        });
        fold(lanes, Ord::max) as u32
    }
}

/// Returns the first element that is an infinity or NaN.
pub fn first_non_finite(row: &[f32]) -> Option<usize> {
    row.iter().position(|x| !x.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples};

    #[test]
    fn every_target_finds_the_largest_magnitude() {
        for row in samples::rows() {
            let want = row.iter().fold(0f32, |m, x| m.max(x.abs()));
            for target in Target::available() {
                assert_eq!(absmax_bits::on(target, &row), want.to_bits(), "{} of {}", target.name(), row.len());
            }
        }
    }

    #[test]
    fn a_single_bad_element_is_found_wherever_it_stands() {
        for n in 1..150 {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..n {
                    let mut row = vec![f32::MAX; n];
                    row[at] = bad;
                    assert_eq!(first_non_finite(&row), Some(at));
                    for target in Target::available() {
                        assert!(absmax_bits::on(target, &row) >= f32::INFINITY.to_bits());
                    }
                }
            }
        }
        assert_eq!(first_non_finite(&[f32::MAX, -0.0, 1e-45]), None);
    }
}
