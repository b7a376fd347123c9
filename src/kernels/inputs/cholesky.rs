//! The factor of an inverse: `U` with `U^T U = H^-1`, upper triangular, as GPTQ wants it.
//!
//! `H = R R^T` with `R` upper triangular is a Cholesky factorization from the last column to the first, and `U` is the
//! inverse of `R`: no inverse of `H` is formed. Written here rather than taken from a library because a factor, too, is to
//! have the same bits on every CPU.

use super::triangle::triangle_row;
use crate::kernels::{dispatch::kernel, lanes::fold};

/// Rows that pass over the rest of the triangle together, so that it is read once for all of them.
pub const BLOCK: usize = 8;

const LANES: usize = 32;

#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0f64; LANES];
    crate::kernels::lanes::each_pair::<_, LANES>(a, b, |lane, a, b| sums[lane] += a * b);
    fold(sums, |a, b| a + b)
}

kernel! {
    /// Replaces the upper triangle of `H`, of `n` rows, by that of `R`, and says whether it could: `H` must be positive
    /// definite. Where it is not, what is left is of no use.
    pub fn cholesky(triangle: &mut [f64], n: usize) -> bool {
        let mut end = n;
        while end > 0 {
            let start = end.saturating_sub(BLOCK);
            let (rows, done) = triangle.split_at_mut(triangle_row(end, n).start);
            let offset = rows.len();
            for j in (end..n).rev() {
                let pivot = triangle_row(j, n);
                let pivot = &done[pivot.start - offset..pivot.end - offset];
                for i in start..end {
                    let (left, right) = rows[triangle_row(i, n)].split_at_mut(j - i + 1);
                    left[j - i] = (left[j - i] - dot(right, &pivot[1..])) / pivot[0];
                }
            }
            for j in (start..end).rev() {
                let (above, row) = rows.split_at_mut(triangle_row(j, n).start);
                let row = &mut row[..n - j];
                let square = row[0] - dot(&row[1..], &row[1..]);
                // Not for NaN either.
                if !(square > 0.0 && square.is_finite()) {
                    return false;
                }
                row[0] = square.sqrt();
                for i in start..j {
                    let (left, right) = above[triangle_row(i, n)].split_at_mut(j - i + 1);
                    left[j - i] = (left[j - i] - dot(right, &row[1..])) / row[0];
                }
            }
            end = start;
        }
        true
    }
}

kernel! {
    /// Replaces the upper triangle of `R`, of `n` rows, by that of its inverse. `scratch` takes `BLOCK * n` numbers.
    ///
    /// ```
    /// use arrow_quant::kernels::cholesky::{BLOCK, cholesky, invert};
    ///
    /// // H = [[2, 1], [1, 1]], its inverse [[1, -1], [-1, 2]] = U^T U with U = [[1, -1], [0, 1]].
    /// let mut triangle = [2.0, 1.0, 1.0];
    /// assert!(cholesky(&mut triangle, 2));
    /// invert(&mut triangle, 2, &mut [0.0; BLOCK * 2]);
    /// assert_eq!(triangle, [1.0, -1.0, 1.0]);
    /// ```
    pub fn invert(triangle: &mut [f64], n: usize, scratch: &mut [f64]) {
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            scratch.fill(0.0);
            for k in start..n {
                let row = &triangle[triangle_row(k, n)];
                for (i, inverse) in (start..end.min(k + 1)).zip(scratch.chunks_exact_mut(n)) {
                    let one = if i == k { 1.0 } else { 0.0 };
                    let x = (one - inverse[k]) / row[0];
                    inverse[k] = x;
                    for (sum, r) in inverse[k + 1..].iter_mut().zip(&row[1..]) {
                        *sum += x * r;
                    }
                }
            }
            for (i, inverse) in (start..end).zip(scratch.chunks_exact(n)) {
                triangle[triangle_row(i, n)].copy_from_slice(&inverse[i..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dispatch::Target, hessian::hessian, triangle::triangle_len},
        testing::samples,
    };

    fn at(triangle: &[f64], n: usize, i: usize, j: usize) -> f64 {
        if i <= j { triangle[triangle_row(i, n)][j - i] } else { 0.0 }
    }

    #[test]
    fn the_factor_squared_is_the_inverse_on_every_target() {
        for n in [1, 2, 7, 8, 9, 40, 65] {
            let mut h = vec![0.0; triangle_len(n).unwrap()];
            hessian(&samples::normal(3 * n * n, n as u64), n, &mut h);
            let factor = |target| {
                let mut u = h.clone();
                assert!(cholesky::on(target, &mut u, n));
                invert::on(target, &mut u, n, &mut vec![f64::NAN; BLOCK * n]);
                u
            };
            let u = factor(Target::BASELINE);
            for target in Target::available() {
                assert!(factor(target).iter().zip(&u).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", target.name());
            }
            // (U^T U) H = 1, row by row.
            for i in 0..n {
                let inverse: Vec<f64> =
                    (0..n).map(|j| (0..n).map(|k| at(&u, n, k, i) * at(&u, n, k, j)).sum()).collect();
                for j in 0..n {
                    let full = |a: usize, b: usize| at(&h, n, a.min(b), a.max(b));
                    let product: f64 = (0..n).map(|k| inverse[k] * full(k, j)).sum();
                    assert!((product - f64::from(u8::from(i == j))).abs() < 1e-9, "{n} {i} {j}: {product}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_is_refused() {
        assert!(!cholesky(&mut [1.0, 2.0, 1.0], 2));
        assert!(!cholesky(&mut [0.0], 1));
        assert!(!cholesky(&mut [f64::NAN, 0.0, 1.0], 2));
        assert!(!cholesky(&mut [1.0, f64::INFINITY, 1.0], 2));
        assert!(cholesky(&mut [], 0));
    }
}
