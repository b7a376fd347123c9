//! `codes`: the codes of quantized values, unpacked.

use arrow_array::{Array, ArrayRef, types::UInt8Type};

use super::{
    ComputeError,
    arrays::{list::ListBuilder, quantized::QuantizedArray},
};
use crate::kernels::pack::unpack;

/// Returns the codes of each quantized value as `List<UInt8>`, one element a weight; null gives null.
///
/// # Errors
/// Returns the errors of [`dequantize`](super::dequantize); also an error if a value is entropy-coded.
pub fn codes(quantized: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let mut builder = ListBuilder::<UInt8Type>::with_capacity(quantized.len(), 0);
    for row in 0..quantized.len() {
        match quantized.packed(row, "codes")? {
            None => builder.push_null(),
            Some((bits, params, codes)) => unpack(codes, bits.get(), builder.push(params.length)?),
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;

    use super::*;
    use crate::{
        testing::arrays::{array, symmetric, two_groups},
        types::quantized::codes_type,
    };

    #[test]
    fn codes_are_unpacked_row_by_row() {
        let codes = codes(&array(&[Some(two_groups()), None, Some(symmetric())])).unwrap();
        assert_eq!(codes.data_type(), &codes_type());
        let row = |i| codes.as_list::<i32>().value(i).as_primitive::<UInt8Type>().values().to_vec();
        assert_eq!([row(0), row(2)], [vec![0, 1, 2, 3, 0, 1, 2, 3], vec![0, 2, 4, 6, 4]]);
        assert!(codes.is_null(1));
    }
}
