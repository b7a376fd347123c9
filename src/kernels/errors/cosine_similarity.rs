//! The cosine of the angle between two rows.

use crate::{
    kernels::{
        dispatch::kernel,
        lanes::{each_pair, fold},
    },
    types::ErrorSums,
};

/// Returns the cosine from the three sums. Two rows of zeros (or none) are equal, so 1; a row of zeros beside
/// one that is not shares no direction with it, so 0. Never NaN, never outside -1 to 1.
#[inline(always)]
fn cosine(dot: f64, a2: f64, b2: f64) -> f64 {
    match (a2 > 0.0, b2 > 0.0) {
        (true, true) => (dot / (a2.sqrt() * b2.sqrt())).clamp(-1.0, 1.0),
        (false, false) => 1.0,
        _ => 0.0,
    }
}

impl ErrorSums {
    /// Returns the cosine similarity; 1 when both rows are zeros, 0 when only one is.
    ///
    /// Rows that are alike have it from their difference, by the law of cosines: `1 - cos` keeps its digits where
    /// `dot` has lost them to rounding.
    pub fn cosine_similarity(&self) -> f64 {
        let (a, b) = (self.a2.sqrt(), self.b2.sqrt());
        if self.err2 < self.a2.min(self.b2) {
            (1.0 - (self.err2 - (a - b) * (a - b)) / (2.0 * a * b)).clamp(-1.0, 1.0)
        } else {
            cosine(self.dot, self.a2, self.b2)
        }
    }
}

kernel! {
    /// Returns the cosine similarity of two rows, sums in f64: `sum(a b) / (sqrt(sum(a^2)) sqrt(sum(b^2)))`.
    ///
    /// 1 when both rows are zeros or empty, 0 when only one is zeros.
    ///
    /// ```
    /// use arrow_quant::kernels::cosine_similarity::cosine_similarity;
    ///
    /// assert_eq!(cosine_similarity(&[3.0, 0.0], &[3.0, 4.0]), 0.6);
    /// assert_eq!(cosine_similarity(&[0.0, 0.0], &[3.0, 4.0]), 0.0);
    /// ```
    pub fn cosine_similarity(a: &[f32], b: &[f32]) -> f64 {
        // With more, AVX2 has not the registers for three sums.
        const LANES: usize = 16;
        let (mut dot, mut a2, mut b2) = ([0f64; LANES], [0f64; LANES], [0f64; LANES]);
        each_pair::<_, LANES>(a, b, |lane, a, b| {
            let (a, b) = (f64::from(a), f64::from(b));
            dot[lane] += a * b;
            a2[lane] += a * a;
            b2[lane] += b * b;
        });
        let sum = |lanes| fold(lanes, |a, b| a + b);
        cosine(sum(dot), sum(a2), sum(b2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dispatch::Target, error_stats::error_stats},
        testing::samples,
    };

    #[test]
    fn rows_that_are_alike_keep_the_digits_of_their_angle() {
        let a = samples::normal(4096, 5);
        for step in [0.1f32, 1e-2, 1e-3, 1e-4] {
            let b: Vec<f32> = a.iter().map(|x| (x / step).round() * step).collect();
            let (exact, ours) = (cosine_similarity(&a, &b), error_stats(&a, &b).cosine_similarity());
            assert!(((1.0 - ours) / (1.0 - exact) - 1.0).abs() < 1e-3, "{step}: {:e} {:e}", 1.0 - ours, 1.0 - exact);
        }
    }

    #[test]
    fn every_target_is_bit_equal_and_near_the_statistics() {
        for a in samples::rows() {
            let b: Vec<f32> = a.iter().rev().map(|x| x * 0.5 + 0.1).collect();
            let want = cosine_similarity::on(Target::BASELINE, &a, &b);
            assert!((-1.0..=1.0).contains(&want));
            assert!((want - error_stats(&a, &b).cosine_similarity()).abs() < 1e-5);
            for target in Target::available() {
                assert_eq!(cosine_similarity::on(target, &a, &b), want, "{}", target.name());
            }
        }
    }

    #[test]
    fn zeros_have_a_rule_and_ends_of_the_range_do_not_overflow() {
        assert_eq!(cosine_similarity(&[], &[]), 1.0);
        assert_eq!(cosine_similarity(&[0.0; 3], &[-0.0; 3]), 1.0);
        assert_eq!(cosine_similarity(&[1.0; 3], &[0.0; 3]), 0.0);
        assert!((cosine_similarity(&[f32::MAX; 99], &[f32::MAX; 99]) - 1.0).abs() < 1e-15);
        assert!((cosine_similarity(&[1e-45; 99], &[-1e-45; 99]) + 1.0).abs() < 1e-15);
    }
}
