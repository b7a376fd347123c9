//! Rows of numbers in any of Arrow's list arrays, as f32.

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float16Type, Float32Type, Float64Type},
};
use arrow_buffer::NullBuffer;
use arrow_schema::DataType;

use crate::{
    compute::ComputeError,
    kernels::{
        finite::{absmax_bits, first_non_finite},
        widen::{narrow_f64, widen_f16},
    },
};

/// The offsets at which each row begins and ends among the elements.
enum Lists<'a> {
    List(&'a [i32]),
    LargeList(&'a [i64]),
    FixedSize(usize),
    View(&'a [i32], &'a [i32]),
    LargeView(&'a [i64], &'a [i64]),
}

enum Elements<'a> {
    F32(&'a [f32]),
    /// Native bytes of each element, and how to widen them.
    Bytes(&'a [u8], usize, fn(&[u8], &mut [f32])),
}

/// A view of an array of lists of floats. Rows of f32 are given without a copy.
///
/// Accepts List, `LargeList`, `FixedSizeList`, `ListView` and `LargeListView` of Float16, Float32 or Float64, and
/// the Null array; sliced or not.
pub struct Rows<'a> {
    /// `None`: every row is null.
    content: Option<(Lists<'a>, Elements<'a>, Option<&'a NullBuffer>)>,
    nulls: Option<&'a NullBuffer>,
    len: usize,
}

impl<'a> Rows<'a> {
    /// Views `array`; `what` names it in errors.
    ///
    /// # Errors
    /// Returns [`ComputeError::InvalidArgument`] if the array is not of an accepted type.
    pub fn try_new(array: &'a dyn Array, what: &str) -> Result<Self, ComputeError> {
        let (lists, values): (Lists, &dyn Array) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (Lists::List(list.value_offsets()), list.values())
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (Lists::LargeList(list.value_offsets()), list.values())
            }
            DataType::FixedSizeList(_, size) => (Lists::FixedSize(*size as usize), array.as_fixed_size_list().values()),
            DataType::ListView(_) => {
                let list = array.as_list_view::<i32>();
                (Lists::View(list.value_offsets(), list.value_sizes()), list.values())
            }
            DataType::LargeListView(_) => {
                let list = array.as_list_view::<i64>();
                (Lists::LargeView(list.value_offsets(), list.value_sizes()), list.values())
            }
            DataType::Null => return Ok(Self { content: None, nulls: None, len: array.len() }),
            other => return Err(not_accepted(what, other)),
        };
        let elements = match values.data_type() {
            DataType::Float32 => Elements::F32(values.as_primitive::<Float32Type>().values()),
            DataType::Float16 => {
                let bytes = values.as_primitive::<Float16Type>().values().inner().as_slice();
                Elements::Bytes(bytes, 2, widen_f16)
            }
            DataType::Float64 => {
                let bytes = values.as_primitive::<Float64Type>().values().inner().as_slice();
                Elements::Bytes(bytes, 8, narrow_f64)
            }
            _ => return Err(not_accepted(what, array.data_type())),
        };
        let element_nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(Self { content: Some((lists, elements, element_nulls)), nulls: array.nulls(), len: array.len() })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns row `row`, or `None` where it is null. What is not f32 is widened (f64 is rounded) into `scratch`.
    ///
    /// # Errors
    /// Returns [`ComputeError::NullElement`] if the row holds a null.
    pub fn row<'s>(&'s self, row: usize, scratch: &'s mut Vec<f32>) -> Result<Option<&'s [f32]>, ComputeError> {
        let Some((lists, elements, element_nulls)) = &self.content else { return Ok(None) };
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        let (start, end) = match lists {
            Lists::List(offsets) => (offsets[row] as usize, offsets[row + 1] as usize),
            Lists::LargeList(offsets) => (offsets[row] as usize, offsets[row + 1] as usize),
            Lists::FixedSize(size) => (row * size, (row + 1) * size),
            Lists::View(starts, sizes) => (starts[row] as usize, starts[row] as usize + sizes[row] as usize),
            Lists::LargeView(starts, sizes) => (starts[row] as usize, starts[row] as usize + sizes[row] as usize),
        };
        if let Some(nulls) = element_nulls
            && let Some(element) = (start..end).position(|i| nulls.is_null(i))
        {
            return Err(ComputeError::NullElement { row, element });
        }
        match elements {
            Elements::F32(values) => Ok(Some(&values[start..end])),
            Elements::Bytes(bytes, width, widen) => {
                scratch.resize(end - start, 0.0);
                widen(&bytes[start * width..end * width], scratch);
                Ok(Some(scratch))
            }
        }
    }
}

fn not_accepted(what: &str, got: &DataType) -> ComputeError {
    ComputeError::InvalidArgument(format!("{what} must be a list of Float16, Float32 or Float64, not {got}"))
}

/// Returns the largest magnitude of a row.
///
/// # Errors
/// Returns [`ComputeError::NonFinite`] if the row holds an infinity or NaN.
pub(crate) fn finite_absmax(values: &[f32], row: usize) -> Result<f32, ComputeError> {
    let absmax = f32::from_bits(absmax_bits(values));
    match first_non_finite(if absmax.is_finite() { &[] } else { values }) {
        Some(element) => Err(ComputeError::NonFinite { row, element, value: values[element] }),
        None => Ok(absmax),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::cast;
    use arrow_array::{Float64Array, ListArray, NullArray, StringArray};
    use arrow_schema::Field;

    use super::*;
    use crate::testing::arrays::list;

    fn read(array: &dyn Array) -> Vec<Option<Vec<f32>>> {
        let rows = Rows::try_new(array, "weights").unwrap();
        let mut scratch = Vec::new();
        (0..rows.len()).map(|i| rows.row(i, &mut scratch).unwrap().map(<[f32]>::to_vec)).collect()
    }

    #[test]
    fn every_kind_of_list_and_float_reads_the_same() {
        let source = list(&[Some(&[9.0, 9.0]), Some(&[1.0, -2.5]), None, Some(&[0.5, 4.0])]);
        let want = vec![Some(vec![1.0, -2.5]), None, Some(vec![0.5, 4.0])];
        for float in [DataType::Float16, DataType::Float32, DataType::Float64] {
            let item = Arc::new(Field::new_list_field(float, true));
            for kind in [
                DataType::List(Arc::clone(&item)),
                DataType::LargeList(Arc::clone(&item)),
                DataType::FixedSizeList(Arc::clone(&item), 2),
                DataType::ListView(Arc::clone(&item)),
                DataType::LargeListView(item),
            ] {
                let array = cast(&source, &kind).unwrap();
                assert_eq!(read(&array.slice(1, 3)), want, "{kind}");
            }
        }
        assert_eq!(read(&NullArray::new(2)), [None, None]);
    }

    #[test]
    fn rows_of_f32_are_not_copied() {
        let array = list(&[Some(&[1.0]), Some(&[2.0, 3.0])]);
        let rows = Rows::try_new(&array, "weights").unwrap();
        let values = array.as_list::<i32>().values().as_primitive::<Float32Type>().values();
        let mut scratch = Vec::new();
        assert_eq!(rows.row(1, &mut scratch).unwrap().unwrap().as_ptr(), values[1..].as_ptr());
    }

    #[test]
    fn a_null_inside_a_row_is_an_error_that_names_it() {
        let values = |row: Option<Vec<Option<f32>>>| row;
        let array = ListArray::from_iter_primitive::<Float32Type, _, _>([
            values(Some(vec![Some(1.0)])),
            values(None),
            values(Some(vec![Some(1.0), None])),
        ]);
        let rows = Rows::try_new(&array, "weights").unwrap();
        let mut scratch = Vec::new();
        assert_eq!(rows.row(0, &mut scratch).unwrap(), Some(&[1.0][..]));
        assert_eq!(rows.row(1, &mut scratch).unwrap(), None);
        let error = rows.row(2, &mut scratch).unwrap_err();
        assert!(matches!(error, ComputeError::NullElement { row: 2, element: 1 }), "{error}");
    }

    #[test]
    fn other_types_are_refused_with_what_is_accepted() {
        let text = StringArray::from(vec!["x"]);
        let message = Rows::try_new(&text, "weights").err().unwrap().to_string();
        assert_eq!(message, "weights must be a list of Float16, Float32 or Float64, not Utf8");
        let integers = ListArray::from_iter_primitive::<arrow_array::types::Int32Type, _, _>([Some([Some(1)])]);
        assert!(Rows::try_new(&integers, "factors").err().unwrap().to_string().starts_with("factors must be"));
        assert!(Rows::try_new(&Float64Array::from(vec![1.0]), "weights").is_err());
    }
}
