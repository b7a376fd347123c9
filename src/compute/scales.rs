//! `scales`: the scale of each group of quantized values.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        quantized::{QuantizedArray, QuantizedRow},
    },
};
use crate::kernels::scale::scale_factor;

/// Returns the scales of each quantized value as `List<Float32>`, one element a group: `row_scale * m(code)`, in units of
/// weights; where a value is entropy-coded, its step for every group. Null gives null.
///
/// # Errors
/// Returns the errors of [`dequantize`](super::dequantize).
pub fn scales(quantized: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(quantized.len(), 0);
    for row in 0..quantized.len() {
        match quantized.row(row)? {
            None => builder.push_null(),
            Some(QuantizedRow::Packed { params, .. }) => {
                for (out, code) in builder.push(params.scales.len())?.iter_mut().zip(params.scales) {
                    *out = params.row_scale * scale_factor(*code);
                }
            }
            Some(QuantizedRow::Entropy(row)) => builder.push(row.groups())?.fill(row.step),
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arrays::{array, list, symmetric, two_groups};

    #[test]
    fn scales_are_in_units_of_weights() {
        let scales = scales(&array(&[Some(two_groups()), None, Some(symmetric())])).unwrap();
        assert_eq!(&scales, &list(&[Some(&[0.5, 0.25]), None, Some(&[0.5])]));
    }
}
