//! Parameters of least squared error.

use super::{dispatch::kernel, minmax::minmax_row, params::for_bits};

kernel! {
    /// Fills the codes of a row, and returns its scale, for a small squared error; arguments as
    /// [`minmax`](fn@super::minmax::minmax).
    pub fn search(
        weights: &[f32],
        importance: Option<&[f32]>,
        bits: u8,
        group_size: usize,
        scratch: &mut [f32],
        scales: &mut [u8],
        zero_points: Option<&mut [u8]>,
    ) -> f32 {
        for_bits!(bits, BITS => {
            minmax_row::<BITS>(weights, importance, group_size, true, scratch, scales, zero_points)
        })
    }
}
