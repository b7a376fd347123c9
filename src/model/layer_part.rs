//! A tensor of a quantized layer, which holds a share of each row: what is written and what is read.

use super::tensor::{Storage, Tensor};
use crate::storage::{
    dtype::Dtype,
    row_layout::{Order, Piece},
};

/// A tensor of a layer, which holds a share of each row.
pub struct Part {
    /// The end of its name.
    pub suffix: &'static str,
    /// The dtypes that it may have; the first one is written.
    pub dtypes: &'static [Dtype],
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// The order of its rows.
    pub order: Order,
}

impl Part {
    /// Returns the piece that a tensor is: `row_bytes` of each of `rows` rows.
    ///
    /// # Errors
    /// Returns an error if the tensor has another dtype, shape or size, or is encoded itself.
    pub fn piece(&self, tensor: &Tensor, rows: usize, row_bytes: usize) -> Result<Piece, String> {
        let Self { suffix, dtypes, shape, order } = self;
        let Storage::Plain { file, range } = &tensor.storage else {
            return Err(format!("its {suffix} is encoded itself"));
        };
        let fits = tensor.shape == *shape || (*order == Order::Shared && tensor.shape == [1]);
        let piece = Piece { file: *file, start: range.start, row_bytes, order: *order };
        if !fits || !dtypes.contains(&tensor.dtype) || piece.bytes(rows) != range.len() {
            let names: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
            let (dtype, names) = (tensor.dtype, names.join(" or "));
            return Err(format!("its {suffix} is {dtype} of shape {:?}, not {names} of {shape:?}", tensor.shape));
        }
        Ok(piece)
    }
}
