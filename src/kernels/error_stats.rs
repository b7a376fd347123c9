//! The sums that every measure of error between two rows is made from.

use super::{
    dequantize::{Pieces, beside_decoded},
    dispatch::kernel,
    lanes::{each_pair, fold},
    params::{Params, for_bits},
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

/// Lanes of the sums.
const LANES: usize = 16;

/// The statistics in the making.
struct Sums {
    dot: [f64; LANES],
    a2: [f64; LANES],
    b2: [f64; LANES],
    err2: [f64; LANES],
    max_abs: [f64; LANES],
    n: u64,
}

impl Sums {
    #[inline(always)]
    fn new() -> Self {
        Self { dot: [0.0; LANES], a2: [0.0; LANES], b2: [0.0; LANES], err2: [0.0; LANES], max_abs: [0.0; LANES], n: 0 }
    }

    #[inline(always)]
    fn fold(self) -> ErrorStats {
        let sum = |lanes| fold(lanes, |a, b| a + b);
        ErrorStats {
            dot: sum(self.dot),
            a2: sum(self.a2),
            b2: sum(self.b2),
            err2: sum(self.err2),
            max_abs: fold(self.max_abs, f64::max),
            n: self.n,
        }
    }
}

impl Pieces for Sums {
    #[inline(always)]
    fn add(&mut self, a: &[f32], b: &[f32]) {
        // Copies, which stay in registers.
        let (mut dot, mut a2, mut b2, mut err2, mut max_abs) = (self.dot, self.a2, self.b2, self.err2, self.max_abs);
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
        (self.dot, self.a2, self.b2, self.err2, self.max_abs) = (dot, a2, b2, err2, max_abs);
        self.n += a.len().min(b.len()) as u64;
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
        let mut sums = Sums::new();
        sums.add(a, b);
        sums.fold()
    }
}

kernel! {
    /// The statistics of a row and what its codes decode to: those of [`error_stats`](fn@error_stats) and
    /// [`dequantize`](fn@super::dequantize::dequantize), bit for bit, without a row of decoded weights between them.
    ///
    /// ```
    /// use arrow_quant::kernels::{error_stats::error_stats_of_codes, params::Params};
    ///
    /// let params = Params { bits: 4, group_size: 2, row_scale: 0.5, scales: &[240], zero_points: Some(&[0]) };
    /// let stats = error_stats_of_codes(&[0.0, 1.0], &[0x10], &params);
    /// assert_eq!((stats.dot, stats.a2, stats.b2, stats.err2, stats.max_abs, stats.n), (0.5, 1.0, 0.25, 0.25, 0.5, 2));
    /// ```
    pub fn error_stats_of_codes(row: &[f32], packed: &[u8], params: &Params<'_>) -> ErrorStats {
        let mut sums = Sums::new();
        for_bits!(params.bits, BITS => beside_decoded::<BITS>(row, packed, params, &mut sums));
        sums.fold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{dequantize::dequantize, dispatch::Target, quantize::quantize, samples};

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
    fn codes_give_what_their_decoded_row_gives() {
        for row in samples::rows().step_by(3).chain([samples::heavy(5000, 9)]) {
            for (bits, group_size) in [(2u8, 32), (3, 5), (4, 32), (4, 128), (8, 2048), (4, 4096), (4, usize::MAX)] {
                let groups = row.len().div_ceil(group_size);
                let scales: Vec<u8> = (0..groups).map(|g| (g * 37 % 256) as u8).collect();
                let zeros: Vec<u8> = (0..groups).map(|g| (g * 91 % 256) as u8).collect();
                for zero_points in [None, Some(&zeros[..])] {
                    let params = Params { bits, group_size, row_scale: 0.7, scales: &scales, zero_points };
                    let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
                    quantize(&row, 1.0, &params, &mut packed);
                    let mut decoded = vec![0.0; row.len()];
                    dequantize(&packed, &params, &mut decoded);
                    let want = error_stats(&row, &decoded);
                    for target in Target::available() {
                        let got = error_stats_of_codes::on(target, &row, &packed, &params);
                        assert_eq!(got, want, "{} {bits} bits g{group_size}", target.name());
                    }
                }
            }
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
