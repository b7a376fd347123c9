//! `codes`: the codes of quantized values, unpacked.

use arrow_array::{Array, ArrayRef, types::UInt8Type};

use super::{ComputeError, list::ListBuilder, quantized::QuantizedArray};
use crate::kernels::pack::unpack;

/// The codes of each quantized value as `List<UInt8>`, one element a weight; null gives null.
///
/// # Errors
/// As [`dequantize`](super::dequantize).
pub fn codes(quantized: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let mut builder = ListBuilder::<UInt8Type>::with_capacity(quantized.len(), 0);
    for row in 0..quantized.len() {
        match quantized.row(row)? {
            None => builder.push_null(),
            Some(row) => unpack(row.codes, row.bits.get(), builder.push(row.params.length)?),
        }
    }
    builder.finish()
}
