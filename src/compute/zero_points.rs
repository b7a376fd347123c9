//! `zero_points`: the zero point of each group of quantized values.

use arrow_array::{Array, ArrayRef, types::Float32Type};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        quantized::{QuantizedArray, QuantizedRow},
    },
};
use crate::kernels::params;

/// Returns the zero points of each quantized value as `List<Float32>`, one element a group, in units of codes; where a
/// value is symmetric, `2^(bits-1)` for every group, and 0 where it is entropy-coded. Null gives null.
///
/// # Errors
/// Returns the errors of [`dequantize`](super::dequantize).
pub fn zero_points(quantized: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let quantized = QuantizedArray::try_new(quantized)?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(quantized.len(), 0);
    for row in 0..quantized.len() {
        match quantized.row(row)? {
            None => builder.push_null(),
            Some(QuantizedRow::Packed { bits, params, .. }) => {
                let params = params.with_bits(bits);
                for (group, out) in builder.push(params.scales.len())?.iter_mut().enumerate() {
                    *out = params::zero_point_of(&params, group);
                }
            }
            Some(QuantizedRow::Entropy(row)) => builder.push(row.groups())?.fill(0.0),
        }
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arrays::{array, list, symmetric, two_groups};

    #[test]
    fn zero_points_are_in_units_of_codes() {
        let zero_points = zero_points(&array(&[Some(two_groups()), None, Some(symmetric())])).unwrap();
        assert_eq!(&zero_points, &list(&[Some(&[0.0, 1.0]), None, Some(&[4.0])]));
    }
}
