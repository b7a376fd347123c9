//! Two arrays side by side, each of rows of floats or of quantized values.

use arrow_array::Array;
use arrow_schema::DataType;

use super::{
    ComputeError,
    quantized::QuantizedArray,
    rows::{Rows, finite_absmax},
};
use crate::kernels::dequantize::dequantize;

enum Side<'a> {
    Rows(Rows<'a>),
    Quantized(QuantizedArray<'a>),
}

impl<'a> Side<'a> {
    fn try_new(array: &'a dyn Array, what: &str) -> Result<Self, ComputeError> {
        match array.data_type() {
            DataType::Struct(_) => QuantizedArray::try_new(array).map(Self::Quantized),
            _ => Rows::try_new(array, what).map(Self::Rows),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.len(),
            Self::Quantized(quantized) => quantized.len(),
        }
    }

    fn row<'s>(&'s self, row: usize, scratch: &'s mut Vec<f32>) -> Result<Option<&'s [f32]>, ComputeError> {
        let values: &[f32] = match self {
            Self::Rows(rows) => match rows.row(row, scratch)? {
                None => return Ok(None),
                Some(values) => values,
            },
            Self::Quantized(quantized) => match quantized.row(row)? {
                None => return Ok(None),
                Some(value) => {
                    scratch.resize(value.params.length, 0.0);
                    dequantize(value.codes, &value.params.with_bits(value.bits), scratch);
                    scratch
                }
            },
        };
        Ok(Some(values))
    }
}

/// Calls `measure` with both rows of each pair, or `null` where either is null.
///
/// # Errors
/// When either array is of another type, when the numbers of rows or the lengths of two rows differ, when a quantized
/// value is corrupt, or when an element is null, infinite or NaN.
pub(super) fn for_each_pair(
    a: &dyn Array,
    b: &dyn Array,
    mut measure: impl FnMut(Option<(&[f32], &[f32])>),
) -> Result<(), ComputeError> {
    let (a, b) = (Side::try_new(a, "the first argument")?, Side::try_new(b, "the second argument")?);
    if a.len() != b.len() {
        return Err(ComputeError::InvalidArgument(format!(
            "the first argument has {} rows, the second {}; they must have as many",
            a.len(),
            b.len()
        )));
    }
    let (mut a_scratch, mut b_scratch) = (Vec::new(), Vec::new());
    for row in 0..a.len() {
        let (Some(a), Some(b)) = (a.row(row, &mut a_scratch)?, b.row(row, &mut b_scratch)?) else {
            measure(None);
            continue;
        };
        if a.len() != b.len() {
            let (what, got, expected) = ("the second argument", b.len(), a.len());
            return Err(ComputeError::Length { row, what, got, expected });
        }
        finite_absmax(a, row)?;
        finite_absmax(b, row)?;
        measure(Some((a, b)));
    }
    Ok(())
}
