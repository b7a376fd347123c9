//! `dequantize`: quantized values to rows of f32.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        entropy_row::{RowsDecoder, fills_lanes},
        list::ListBuilder,
        quantized::{QuantizedArray, QuantizedRow},
    },
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
        elements = elements.saturating_add(quantized.row(row)?.map_or(0, |row| row.length()));
    }
    let capacity = elements.min(i32::MAX as usize);
    let mut builder = ListBuilder::<Float32Type>::with_capacity(quantized.len(), capacity);
    let (mut decoder, mut row) = (RowsDecoder::default(), 0);
    while row < quantized.len() {
        match quantized.row(row)? {
            None => builder.push_null(),
            Some(QuantizedRow::Packed { bits, params, codes }) => {
                decode(codes, &params.with_bits(bits), builder.push(params.length)?);
            }
            Some(QuantizedRow::Entropy(first)) => {
                let (mut rows, mut weights) = (vec![(row, first)], first.length);
                while row + 1 < quantized.len()
                    && !fills_lanes(rows.len(), weights)
                    && let Some(QuantizedRow::Entropy(next)) = quantized.row(row + 1)?
                {
                    row += 1;
                    weights += next.length;
                    rows.push((row, next));
                }
                decoder.decode(&rows, builder.push_rows(rows.iter().map(|(_, row)| row.length))?)?;
            }
        }
        row += 1;
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
