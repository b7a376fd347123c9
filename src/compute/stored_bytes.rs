//! `stored_bytes`: the bytes that quantized values take.

use arrow_array::{Array, Int64Array};

use super::{
    ComputeError,
    arrays::quantized::{QuantizedArray, QuantizedRow},
};
use crate::types::quantized::ENTROPY_ROW_BYTES;

/// Returns the bytes of each quantized value: codes, scales, zero points and the row's scale; of one that is entropy-coded the
/// codes and [`ENTROPY_ROW_BYTES`]. Bits, group size and length, which rows of a tensor share, are not counted. Null gives null.
///
/// # Errors
/// Returns the errors of [`dequantize`](super::dequantize), except that streams of entropy-coded values are not decoded.
///
/// # Example
/// ```
/// use arrow_array::{ListArray, types::Float32Type};
/// use arrow_quant::{compute, types::{Bits, QuantizeOptions}};
///
/// let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0); 64])]);
/// let options = QuantizeOptions::new(Bits::Four);
/// let quantized = compute::quantize(&weights, &options.into())?;
/// assert_eq!(compute::stored_bytes(&quantized)?.value(0), 32 + 2 * 2 + 4);
/// # Ok::<(), compute::ComputeError>(())
/// ```
pub fn stored_bytes(quantized: &dyn Array) -> Result<Int64Array, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let bytes = |row: QuantizedRow| match row {
        QuantizedRow::Packed { params, codes, .. } => {
            codes.len() + params.scales.len() + params.zero_points.map_or(0, <[u8]>::len) + size_of::<f32>()
        }
        QuantizedRow::Entropy(row) => row.codes.len() + ENTROPY_ROW_BYTES,
    };
    (0..quantized.len()).map(|row| Ok(quantized.row(row)?.map(|row| bytes(row) as i64))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        compute::{RowOptions, quantize, quantize_step},
        testing::{arrays::list, samples},
        types::{Bits, QuantizeOptions},
    };

    #[test]
    fn bytes_are_those_of_the_options_and_of_the_codes() {
        let row = samples::normal(1000, 2);
        let weights = list(&[Some(&row), None]);
        for bits in Bits::ALL {
            for symmetric in [false, true] {
                let options = QuantizeOptions::new(bits).with_symmetric(symmetric);
                let bytes = stored_bytes(&quantize(&weights, &RowOptions::Same(options)).unwrap()).unwrap();
                assert_eq!(bytes, Int64Array::from(vec![Some(options.row_bytes(1000) as i64), None]));
            }
        }
        // Two bits a weight, about.
        let bytes = stored_bytes(&quantize_step(&weights, &[Some(0.5), None]).unwrap()).unwrap();
        assert!((240..270).contains(&bytes.value(0)) && bytes.is_null(1), "{bytes:?}");
    }
}
