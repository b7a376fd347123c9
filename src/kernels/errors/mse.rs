//! The mean squared error.

use super::error_stats::error_stats;
use crate::types::ErrorSums;

impl ErrorSums {
    /// Returns `err2 / n`; 0 for empty rows.
    pub fn mse(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.err2 / self.n as f64 }
    }
}

/// Returns the mean of `(a - b)^2`, summed as [`error_stats`](fn@error_stats) does; 0 for empty rows.
///
/// ```
/// assert_eq!(arrow_quant::kernels::mse::mse(&[1.0, 2.0], &[1.0, 4.0]), 2.0);
/// ```
pub fn mse(a: &[f32], b: &[f32]) -> f64 {
    error_stats(a, b).mse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_rows_have_no_error() {
        assert_eq!(mse(&[], &[]), 0.0);
        assert_eq!(mse(&[f32::MAX], &[-f32::MAX]), (2.0 * f64::from(f32::MAX)).powi(2));
    }
}
