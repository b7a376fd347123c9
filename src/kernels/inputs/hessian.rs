//! Sums of outer products: what the inputs of a layer say of how its output errors depend on those of its weights.

use super::triangle::triangle_row;
use crate::kernels::dispatch::kernel;

/// Columns whose sums stay in registers while the rows pass.
const WIDTH: usize = 32;

kernel! {
    /// Adds `x[i] * x[j]` of every row `x` to the upper triangle `sums` of a matrix of `n` rows, in f64 and in the order of
    /// the rows: the product of two f32 is exact there, and how rows are parted into calls changes nothing.
    ///
    /// `rows` holds rows of `n` numbers each.
    ///
    /// ```
    /// let mut sums = [0.0; 3];
    /// arrow_quant::kernels::hessian::hessian(&[1.0, 2.0, 3.0, -1.0], 2, &mut sums);
    /// assert_eq!(sums, [10.0, -1.0, 5.0]);
    /// ```
    pub fn hessian(rows: &[f32], n: usize, sums: &mut [f64]) {
        for i in 0..n {
            let (blocks, rest) = sums[triangle_row(i, n)].as_chunks_mut::<WIDTH>();
            let done = i + blocks.len() * WIDTH;
            for (block, sums) in blocks.iter_mut().enumerate() {
                let start = i + block * WIDTH;
                let mut kept = *sums;
                for row in rows.chunks_exact(n) {
                    let x = f64::from(row[i]);
                    for (sum, y) in kept.iter_mut().zip(&row[start..start + WIDTH]) {
                        *sum += x * f64::from(*y);
                    }
                }
                *sums = kept;
            }
            for row in rows.chunks_exact(n) {
                let x = f64::from(row[i]);
                for (sum, y) in rest.iter_mut().zip(&row[done..]) {
                    *sum += x * f64::from(*y);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dispatch::Target, triangle::triangle_len},
        testing::samples,
    };

    #[test]
    fn every_target_sums_the_products_in_the_order_of_the_rows() {
        for n in [1, 2, 31, 33, 70] {
            let rows = samples::heavy(n * 9, n as u64);
            let mut want = vec![0.25; triangle_len(n).unwrap()];
            for row in rows.chunks(n) {
                for i in 0..n {
                    for j in i..n {
                        want[triangle_row(i, n)][j - i] += f64::from(row[i]) * f64::from(row[j]);
                    }
                }
            }
            for target in Target::available() {
                let mut sums = vec![0.25; want.len()];
                for part in rows.chunks(n * 4) {
                    hessian::on(target, part, n, &mut sums);
                }
                assert_eq!(sums, want, "{} {n}", target.name());
            }
        }
    }
}
