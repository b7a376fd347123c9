//! The row scale fitted to the codes of all groups.

use super::{
    candidate::{CANCELS, Search},
    grid::Grid,
};

/// The share of its terms below which `square` is off by more than a ten-thousandth, so that no fit can be told from another: one
/// weight that is far larger than all others leaves so few codes that differ from their zero points.
const FEW: f64 = 1e-2;

/// Sums for the least-squares row scale: of `m (q - z) x`, and of `m^2 (q - z)^2`.
#[derive(Default)]
pub(in crate::kernels) struct RowFit {
    cross: f64,
    square: f64,
    /// The sums that `square` is a difference of.
    terms: f64,
    /// The sum of `x^2`.
    signal: f64,
}

impl RowFit {
    /// Adds the groups of the first `groups` lanes.
    #[inline(always)]
    pub(super) fn add<const BITS: usize, const L: usize, G: Grid>(
        &mut self,
        search: &Search<BITS, L, G>,
        groups: usize,
    ) {
        for i in 0..groups.min(L) {
            let (m, z) = (f64::from(search.best.0[i]), f64::from(search.zero_point(search.best.1[i])));
            let (n, x) = (f64::from(search.tile.n[i]), f64::from(search.tile.x[i]));
            let (q, qq) = (f64::from(search.sums.q[i]), f64::from(search.sums.qq[i]));
            self.cross += m * (f64::from(search.sums.xq[i]) - z * x);
            self.square += m * m * (qq - 2.0 * z * q + z * z * n);
            self.terms += m * m * (qq + z * z * n);
            self.signal += f64::from(search.tile.xx[i]);
        }
    }

    /// Returns true if the sums cannot tell the error that the fit leaves: it is too small a share of the weights, or too few
    /// codes differ from their zero points.
    #[inline(always)]
    pub(super) fn cancels(&self) -> bool {
        self.signal * (1.0 - f64::from(CANCELS)) < self.cross * (self.cross / self.square)
            || self.square < FEW * self.terms
    }

    /// Returns the row scale of least error for the codes; `row_scale` where there is none.
    #[inline(always)]
    pub(super) fn row_scale(&self, row_scale: f32) -> f32 {
        let fit = (self.cross / self.square) as f32;
        // The scales were rounded to within an eighth.
        if fit > row_scale * 0.8 && fit < row_scale * 1.25 { fit } else { row_scale }
    }
}
