//! The sums that every measure of error between two rows is made from.

use super::{
    dispatch::kernel,
    lanes::{each_pair, fold},
};

/// Sums over the elements of two rows, in f64. They add up over rows: [`ErrorStats::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ErrorStats {
    /// The sum of `a * b`.
    pub dot: f64,
    /// The sum of `a^2`.
    pub a2: f64,
    /// The sum of `b^2`.
    pub b2: f64,
    /// The sum of `(a - b)^2`.
    pub err2: f64,
    /// The largest `|a - b|`.
    pub max_abs: f64,
    /// The number of elements.
    pub n: u64,
}

impl ErrorStats {
    /// The statistics of both parts together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            dot: self.dot + other.dot,
            a2: self.a2 + other.a2,
            b2: self.b2 + other.b2,
            err2: self.err2 + other.err2,
            max_abs: self.max_abs.max(other.max_abs),
            n: self.n + other.n,
        }
    }
}

kernel! {
    /// The statistics of two rows, over the elements that both have.
    ///
    /// ```
    /// let stats = arrow_quant::kernels::error_stats::error_stats(&[1.0, 2.0], &[1.0, 3.0]);
    /// assert_eq!((stats.dot, stats.a2, stats.b2, stats.err2, stats.max_abs, stats.n), (7.0, 5.0, 10.0, 1.0, 1.0, 2));
    /// ```
    pub fn error_stats(a: &[f32], b: &[f32]) -> ErrorStats {
        const LANES: usize = 16;
        let (mut dot, mut a2, mut b2) = ([0f64; LANES], [0f64; LANES], [0f64; LANES]);
        let (mut err2, mut max_abs) = ([0f64; LANES], [0f64; LANES]);
        each_pair::<_, LANES>(a, b, |lane, a, b| {
            let (a, b) = (f64::from(a), f64::from(b));
            let error = a - b;
            dot[lane] += a * b;
            a2[lane] += a * a;
            b2[lane] += b * b;
            err2[lane] += error * error;
            let error = error.abs();
            max_abs[lane] = if error > max_abs[lane] { error } else { max_abs[lane] };
        });
        let sum = |lanes| fold(lanes, |a, b| a + b);
        ErrorStats {
            dot: sum(dot),
            a2: sum(a2),
            b2: sum(b2),
            err2: sum(err2),
            max_abs: fold(max_abs, f64::max),
            n: a.len().min(b.len()) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{dispatch::Target, samples};

    /// Relative error of a sum of `n` terms in f64, whatever the order.
    fn near(got: f64, want: f64, magnitude: f64, n: usize) -> bool {
        (got - want).abs() <= magnitude * f64::EPSILON * n as f64
    }

    #[test]
    fn every_target_is_bit_equal_and_near_the_plain_sums() {
        let rows: Vec<_> = samples::rows().collect();
        for a in &rows {
            let b: Vec<f32> = a.iter().rev().map(|x| x * 0.99).collect();
            let want = error_stats::on(Target::BASELINE, a, &b);
            for target in Target::available() {
                assert_eq!(error_stats::on(target, a, &b), want, "{}", target.name());
            }
            let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let n = a.len();
            let scale: f64 = pairs().map(|(a, b)| (a * b).abs()).sum();
            assert!(near(want.dot, pairs().map(|(a, b)| a * b).sum(), scale, n));
            let a2: f64 = pairs().map(|(a, _)| a * a).sum();
            assert!(near(want.a2, a2, a2, n));
            let b2: f64 = pairs().map(|(_, b)| b * b).sum();
            assert!(near(want.b2, b2, b2, n));
            let err2: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
            assert!(near(want.err2, err2, err2, n));
            assert_eq!(want.max_abs, pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max));
            assert_eq!(want.n, n as u64);
        }
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let (a, b) = (samples::normal(64, 1), samples::normal(64, 2));
        let parts = error_stats(&a[..32], &b[..32]).merge(error_stats(&a[32..], &b[32..]));
        let whole = error_stats(&a, &b);
        assert_eq!((parts.n, parts.max_abs), (whole.n, whole.max_abs));
        assert!(near(parts.dot, whole.dot, 64.0, 64) && near(parts.err2, whole.err2, 256.0, 64));
    }
}
