//! Elementwise reductions over rows: what a column of the weight matrix, an input channel, reaches.

use crate::kernels::{dispatch::kernel, lanes};

kernel! {
    /// Raises `result[j]` to `|row[j]|`.
    pub fn channel_absmax(row: &[f32], result: &mut [f32]) {
        for (x, result) in row.iter().zip(result) {
            *result = lanes::max(x.abs(), *result);
        }
    }
}

kernel! {
    /// Lowers `result[j]` to `row[j]`.
    pub fn channel_min(row: &[f32], result: &mut [f32]) {
        for (x, result) in row.iter().zip(result) {
            *result = lanes::min(*x, *result);
        }
    }
}

kernel! {
    /// Raises `result[j]` to `row[j]`.
    pub fn channel_max(row: &[f32], result: &mut [f32]) {
        for (x, result) in row.iter().zip(result) {
            *result = lanes::max(*x, *result);
        }
    }
}

kernel! {
    /// Adds `row[j]^2` to `result[j]`, in f64.
    ///
    /// ```
    /// let mut sums = [1.0, 0.0];
    /// arrow_quant::kernels::channel::channel_sum_squares(&[3.0, 1e30], &mut sums);
    /// assert_eq!(sums, [10.0, f64::from(1e30f32).powi(2)]);
    /// ```
    pub fn channel_sum_squares(row: &[f32], result: &mut [f64]) {
        for (x, result) in row.iter().zip(result) {
            let x = f64::from(*x);
            *result += x * x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples};

    #[test]
    fn every_target_reduces_every_length_element_by_element() {
        for row in samples::rows() {
            for target in Target::available() {
                let start: Vec<f32> = row.iter().rev().copied().collect();
                let check = |kernel: fn(Target, &[f32], &mut [f32]), naive: fn(f32, f32) -> f32| {
                    let mut result = start.clone();
                    kernel(target, &row, &mut result);
                    for ((got, x), start) in result.iter().zip(&row).zip(&start) {
                        assert_eq!(*got, naive(*start, *x), "{}", target.name());
                    }
                };
                check(channel_absmax::on, |m, x| m.max(x.abs()));
                check(channel_min::on, f32::min);
                check(channel_max::on, f32::max);
                let mut sums = vec![0.5; row.len()];
                channel_sum_squares::on(target, &row, &mut sums);
                assert!(sums.iter().zip(&row).all(|(sum, x)| *sum == 0.5 + f64::from(*x).powi(2)));
            }
        }
    }
}
