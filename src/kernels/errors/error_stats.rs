//! The sums that every measure of error between two rows is made from.

use crate::{
    kernels::{
        dequantize::{Pieces, beside_decoded},
        dispatch::kernel,
        lanes::{each_pair, fold},
        params::{Params, for_bits},
    },
    types::ErrorSums,
};

/// Lanes of the sums.
const LANES: usize = 16;

/// Elements that are added up in f32, 64 in each lane, before their sums are added up in f64.
const PIECE: usize = 64 * LANES;

/// Sums that are taken in pieces of two rows.
trait Sums: Pieces + Default {
    fn fold(self) -> ErrorSums;
}

/// Squares in f32, pieces of them in f64: twice as fast as [`Exact`], and right to five digits at least unless the squares
/// leave the range of f32.
#[derive(Default)]
struct Quick {
    piece: Lanes<f32>,
    filled: usize,
    whole: Lanes<f64>,
    n: u64,
}

/// Everything in f64.
#[derive(Default)]
struct Exact {
    sums: Lanes<f64>,
    n: u64,
}

#[derive(Default, Clone, Copy)]
struct Lanes<T> {
    dot: [T; LANES],
    a2: [T; LANES],
    b2: [T; LANES],
    err2: [T; LANES],
    max_abs: [T; LANES],
}

impl Lanes<f64> {
    #[inline(always)]
    fn fold(self, n: u64) -> ErrorSums {
        let sum = |lanes| fold(lanes, |a, b| a + b);
        ErrorSums {
            dot: sum(self.dot),
            a2: sum(self.a2),
            b2: sum(self.b2),
            err2: sum(self.err2),
            max_abs: fold(self.max_abs, f64::max),
            n,
        }
    }
}

macro_rules! add_pairs {
    ($float:ty, $sums:expr, $a:expr, $b:expr) => {{
        // Copies, which stay in registers.
        let Lanes { mut dot, mut a2, mut b2, mut err2, mut max_abs } = $sums;
        each_pair::<_, LANES>($a, $b, |lane, a, b| {
            let (a, b) = (<$float>::from(a), <$float>::from(b));
            let error = a - b;
            dot[lane] += a * b;
            a2[lane] += a * a;
            b2[lane] += b * b;
            err2[lane] += error * error;
            let error = error.abs();
            max_abs[lane] = if error > max_abs[lane] { error } else { max_abs[lane] };
        });
        $sums = Lanes { dot, a2, b2, err2, max_abs };
    }};
}

impl Pieces for Exact {
    #[inline(always)]
    fn add(&mut self, a: &[f32], b: &[f32]) {
        add_pairs!(f64, self.sums, a, b);
        self.n += a.len().min(b.len()) as u64;
    }
}

impl Sums for Exact {
    #[inline(always)]
    fn fold(self) -> ErrorSums {
        self.sums.fold(self.n)
    }
}

impl Quick {
    #[inline(always)]
    fn flush(&mut self) {
        let Self { piece, whole, .. } = self;
        for lane in 0..LANES {
            whole.dot[lane] += f64::from(piece.dot[lane]);
            whole.a2[lane] += f64::from(piece.a2[lane]);
            whole.b2[lane] += f64::from(piece.b2[lane]);
            whole.err2[lane] += f64::from(piece.err2[lane]);
            let error = f64::from(piece.max_abs[lane]);
            whole.max_abs[lane] = if error > whole.max_abs[lane] { error } else { whole.max_abs[lane] };
        }
        (self.piece, self.filled) = (Lanes::default(), 0);
    }
}

impl Pieces for Quick {
    #[inline(always)]
    fn add(&mut self, mut a: &[f32], mut b: &[f32]) {
        let n = a.len().min(b.len());
        (a, b) = (&a[..n], &b[..n]);
        self.n += n as u64;
        while !a.is_empty() {
            let n = a.len().min(PIECE - self.filled);
            let ((a_now, a_rest), (b_now, b_rest)) = (a.split_at(n), b.split_at(n));
            add_pairs!(f32, self.piece, a_now, b_now);
            self.filled += n;
            if self.filled == PIECE {
                self.flush();
            }
            (a, b) = (a_rest, b_rest);
        }
    }
}

impl Sums for Quick {
    #[inline(always)]
    fn fold(mut self) -> ErrorSums {
        self.flush();
        self.whole.fold(self.n)
    }
}

/// Returns true if no square that counts has left the range of f32: what is lost below is under 2^-149 an element.
#[inline(always)]
fn is_sound(stats: &ErrorSums) -> bool {
    const LEAST: f64 = 1e-20;
    let sound = |sum: f64| sum > LEAST && sum < f64::INFINITY;
    sound(stats.a2) && sound(stats.b2) && (sound(stats.err2) || stats.max_abs == 0.0)
}

kernel! {
    /// Returns the statistics of two rows, over the elements that both have.
    ///
    /// Products are rounded to f32 and added up in f32, 64 at a time; these sums are added up in f64. A sum is off by less
    /// than 4e-6 of the sum of its terms' magnitudes and 2^-149 for each, mostly by less than 1e-7. Rows whose squares f32
    /// does not hold, rows of zeros among them, are summed again in f64 alone.
    ///
    /// ```
    /// let stats = arrow_quant::kernels::error_stats::error_stats(&[1.0, 2.0], &[1.0, 3.0]);
    /// assert_eq!((stats.dot, stats.a2, stats.b2, stats.err2, stats.max_abs, stats.n), (7.0, 5.0, 10.0, 1.0, 1.0, 2));
    /// ```
    pub fn error_stats(a: &[f32], b: &[f32]) -> ErrorSums {
        let stats = of_rows::<Quick>(a, b);
        if is_sound(&stats) { stats } else { of_rows::<Exact>(a, b) }
    }
}

#[inline(always)]
fn of_rows<S: Sums>(a: &[f32], b: &[f32]) -> ErrorSums {
    let mut sums = S::default();
    sums.add(a, b);
    sums.fold()
}

kernel! {
    /// Returns the statistics of a row and what its codes decode to: those of [`error_stats`](fn@error_stats) and
    /// [`dequantize`](fn@crate::kernels::dequantize::dequantize), bit for bit, without a row of decoded weights between them.
    ///
    /// ```
    /// use arrow_quant::kernels::{error_stats::error_stats_of_codes, params::Params};
    ///
    /// let params = Params { bits: 4, group_size: 2, row_scale: 0.5, scales: &[240], zero_points: Some(&[0]) };
    /// let stats = error_stats_of_codes(&[0.0, 1.0], &[0x10], &params);
    /// assert_eq!((stats.dot, stats.a2, stats.b2, stats.err2, stats.max_abs, stats.n), (0.5, 1.0, 0.25, 0.25, 0.5, 2));
    /// ```
    pub fn error_stats_of_codes(row: &[f32], packed: &[u8], params: &Params<'_>) -> ErrorSums {
        for_bits!(params.bits, BITS => {
            let stats = of_codes::<BITS, Quick>(row, packed, params);
            if is_sound(&stats) { stats } else { of_codes::<BITS, Exact>(row, packed, params) }
        })
    }
}

#[inline(always)]
fn of_codes<const BITS: usize, S: Sums>(row: &[f32], packed: &[u8], params: &Params) -> ErrorSums {
    let mut sums = S::default();
    beside_decoded::<BITS>(row, packed, params, &mut sums);
    sums.fold()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dequantize::dequantize, dispatch::Target, quantize::quantize},
        testing::samples,
    };

    /// Returns true if two sums differ by no more than is documented, relative to the sum of their terms' magnitudes.
    fn near(got: f64, want: f64, magnitude: f64) -> bool {
        (got - want).abs() <= magnitude * 4e-6
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
            let scale: f64 = pairs().map(|(a, b)| (a * b).abs()).sum();
            assert!(near(want.dot, pairs().map(|(a, b)| a * b).sum(), scale));
            let a2: f64 = pairs().map(|(a, _)| a * a).sum();
            assert!(near(want.a2, a2, a2));
            let b2: f64 = pairs().map(|(_, b)| b * b).sum();
            assert!(near(want.b2, b2, b2));
            let err2: f64 = pairs().map(|(a, b)| (a - b).powi(2)).sum();
            assert!(near(want.err2, err2, err2));
            let max_abs = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!((want.max_abs - max_abs).abs() <= max_abs * 6e-8);
            assert_eq!(want.n, a.len() as u64);
        }
    }

    #[test]
    fn squares_that_f32_does_not_hold_are_summed_in_f64() {
        for scale in [1e-40f32, 1e-30, 1e-22, 1e18, 1e38] {
            let a = [scale, -2.0 * scale, 0.0];
            let b = [scale, -scale, 0.0];
            let square = f64::from(scale).powi(2);
            let stats = error_stats(&a, &b);
            for (got, want) in [(stats.dot, 3.0), (stats.a2, 5.0), (stats.b2, 2.0), (stats.err2, 1.0)] {
                assert!((got / square - want).abs() < 1e-5 * want, "{scale}: {got}");
            }
            assert!((stats.cosine_similarity() - 3.0 / 10f64.sqrt()).abs() < 1e-5);
        }
        // Only the squares of the errors, and only those of the second piece.
        let close = error_stats(&[1.0, 1e-25], &[1.0, 2e-25]);
        assert!((close.err2 / 1e-50 - 1.0).abs() < 1e-5 && close.sqnr().is_finite());
        let mut far = vec![1.0; 3000];
        far[2000] = 3e38;
        let stats = error_stats(&far, &vec![1.0; 3000]);
        assert!((stats.a2 / 9e76 - 1.0).abs() < 1e-5 && (stats.dot / 3e38 - 1.0).abs() < 1e-5);
        let opposite = error_stats(&[3e38], &[-3e38]);
        assert!((opposite.max_abs / 6e38 - 1.0).abs() < 1e-6 && opposite.cosine_similarity() == -1.0);
        let nan = error_stats(&[1.0, f32::NAN], &[1.0, 0.0]);
        assert!(nan.a2.is_nan() && nan.b2 == 1.0);
    }

    #[test]
    fn codes_give_what_their_decoded_row_gives() {
        for row in samples::rows().step_by(3).chain([samples::heavy(5000, 9)]) {
            for (bits, group_size) in [
                (2u8, 32),
                (3, 5),
                (4, 32),
                (3, 96),
                (4, 128),
                (2, 288),
                (8, 512),
                (4, 544),
                (8, 2048),
                (4, usize::MAX),
            ] {
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
        assert!(near(parts.dot, whole.dot, 64.0) && near(parts.err2, whole.err2, 256.0));
    }
}
