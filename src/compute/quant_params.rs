//! `quant_params`: the first half of `quantize`.

use arrow_array::{Array, ArrayRef};

use super::{ComputeError, RowOptions, quantize::quantize_rows};

/// Returns the decode parameters that [`quantize`](super::quantize) would choose for each row of `weights`.
///
/// The result has the type [`params_type`](crate::types::quantized::params_type) and is what
/// [`quantize_with`](super::quantize_with) takes. A null row, and a row without options, gives null.
///
/// # Errors
/// Returns the errors of [`quantize`](super::quantize).
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, types::Float32Type};
/// use arrow_quant::{compute, types::{Bits, QuantizeOptions}};
///
/// let row = [0.0f32, 0.1, -0.2, 0.3].map(Some).to_vec();
/// let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row)]);
/// let options = QuantizeOptions::new(Bits::Four).into();
/// let params = compute::quant_params(&weights, &options)?;
/// let quantized = compute::quantize_with(&weights, &[Some(Bits::Four)], &params)?;
/// assert_eq!(&quantized, &compute::quantize(&weights, &options)?);
/// # Ok::<(), compute::ComputeError>(())
/// ```
pub fn quant_params(weights: &dyn Array, options: &RowOptions) -> Result<ArrayRef, ComputeError> {
    quantize_rows(weights, None, options, false)
}

/// Does the same as [`quant_params`], with the importance of each input channel: see
/// [`quantize_weighted`](super::quantize_weighted).
///
/// # Errors
/// Returns the errors of [`quantize_weighted`](super::quantize_weighted).
pub fn quant_params_weighted(
    weights: &dyn Array,
    importance: &dyn Array,
    options: &RowOptions,
) -> Result<ArrayRef, ComputeError> {
    quantize_rows(weights, Some(importance), options, false)
}

#[cfg(test)]
mod tests {
    use arrow_array::{StructArray, cast::AsArray};

    use super::*;
    use crate::{
        testing::arrays::{SYMMETRIC, TWO_GROUPS, array, list, symmetric, two_groups},
        types::{Bits, Method, QuantizeOptions, quantized::params_fields},
    };

    #[test]
    fn parameters_are_the_quantized_value_without_bits_and_codes() {
        let two = QuantizeOptions::new(Bits::Two).with_group_size(4).unwrap().with_method(Method::Minmax);
        let three = QuantizeOptions::new(Bits::Three).with_method(Method::Minmax).with_symmetric(true);
        let weights = list(&[Some(&TWO_GROUPS), None, Some(&SYMMETRIC)]);
        let got = quant_params(&weights, &RowOptions::PerRow(vec![Some(two), Some(two), Some(three)])).unwrap();
        let whole = array(&[Some(two_groups()), None, Some(symmetric())]);
        let whole = whole.as_struct();
        let columns = params_fields().iter().map(|field| whole.column_by_name(field.name()).unwrap().clone()).collect();
        let want: ArrayRef = std::sync::Arc::new(StructArray::new(params_fields(), columns, whole.nulls().cloned()));
        assert_eq!(&got, &want);
    }
}
