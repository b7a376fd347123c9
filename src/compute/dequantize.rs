//! `dequantize`: quantized values to rows of f32.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{list::ListBuilder, quantized::QuantizedArray},
};
use crate::kernels::dequantize::dequantize as decode;

/// Decodes each quantized value to `List<Float32>`; null gives null.
///
/// # Errors
/// Returns an error if `quantized` is not a struct of the fields of
/// [`quantized_type`](crate::types::quantized::quantized_type), if the fields of a row do not fit together, or if the
/// result would pass what one array holds.
///
/// # Example
/// See [`quantize`](super::quantize).
pub fn dequantize(quantized: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let mut elements = 0usize;
    for row in 0..quantized.len() {
        elements = elements.saturating_add(quantized.row(row)?.map_or(0, |row| row.params.length));
    }
    let capacity = elements.min(i32::MAX as usize);
    let mut builder = ListBuilder::<Float32Type>::with_capacity(quantized.len(), capacity);
    for row in 0..quantized.len() {
        match quantized.row(row)? {
            None => builder.push_null(),
            Some(row) => decode(row.codes, &row.params.with_bits(row.bits), builder.push(row.params.length)?),
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arrays::{SYMMETRIC, TWO_GROUPS, array, list, symmetric, two_groups};

    #[test]
    fn values_decode_by_the_formula_and_null_to_null() {
        let quantized = array(&[Some(two_groups()), None, Some(symmetric())]);
        let want = list(&[Some(&TWO_GROUPS), None, Some(&SYMMETRIC)]);
        assert_eq!(&dequantize(&quantized).unwrap(), &want);
        assert_eq!(&dequantize(&quantized.slice(1, 2)).unwrap(), &want.slice(1, 2));
        assert_eq!(dequantize(&quantized.slice(0, 0)).unwrap().len(), 0);
    }
}
