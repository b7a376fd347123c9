//! The signal-to-quantization-noise ratio.

use super::error_stats::error_stats;
use crate::types::ErrorSums;

impl ErrorSums {
    /// Returns `10 log10(a2 / err2)` in dB. Plus infinity without error, minus infinity when `a` is zeros and `b` is not.
    pub fn sqnr(&self) -> f64 {
        // 0/0 is the only way to NaN, and is taken by the first arm.
        if self.err2 == 0.0 { f64::INFINITY } else { 10.0 * (self.a2 / self.err2).log10() }
    }
}

/// Returns the signal-to-quantization-noise ratio of `b` as a stand-in for `a`, in dB; the rules are those of
/// [`ErrorSums::sqnr`].
///
/// ```
/// use arrow_quant::kernels::sqnr::sqnr;
///
/// assert_eq!(sqnr(&[10.0, 0.0], &[9.0, 0.0]), 20.0);
/// assert_eq!(sqnr(&[1.0], &[1.0]), f64::INFINITY);
/// ```
pub fn sqnr(a: &[f32], b: &[f32]) -> f64 {
    error_stats(a, b).sqnr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_have_a_rule() {
        assert_eq!(sqnr(&[], &[]), f64::INFINITY);
        assert_eq!(sqnr(&[0.0], &[0.0]), f64::INFINITY);
        assert_eq!(sqnr(&[0.0], &[1.0]), f64::NEG_INFINITY);
        assert_eq!(sqnr(&[1.0], &[0.0]), 0.0);
    }
}
