//! The rate of a tensor whose weights are entropy-coded.

use crate::{
    model::tensor::Tensor,
    types::quantized::{ENTROPY_GROUP_SIZE, ENTROPY_ROW_BYTES},
};

/// The rate of a tensor whose weights are entropy-coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entropy {
    /// Bits a weight of the codes: the most that a row may take, or, with a step, what was measured.
    pub bits: f64,
    /// The step of all rows. `None` means that each row has its own.
    pub step: Option<f32>,
}

impl Entropy {
    /// Returns the bytes that a tensor takes, at most where its rows have steps of their own.
    #[must_use]
    pub fn bytes(&self, tensor: &Tensor) -> u64 {
        let codes = match self.step {
            None => {
                // The shortest stream of a group has its table and its state, and before it stands its length.
                let least = 5 * tensor.row_length.div_ceil(ENTROPY_GROUP_SIZE as usize);
                let row = (self.bits * tensor.row_length as f64 / 8.0) as usize;
                (row.max(least) * tensor.rows) as u64
            }
            Some(_) => (self.bits * tensor.elements() as f64 / 8.0).round() as u64,
        };
        codes + (ENTROPY_ROW_BYTES * tensor.rows) as u64
    }
}
