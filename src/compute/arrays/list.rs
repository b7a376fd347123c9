//! Building list arrays whose elements are written into one buffer.

use std::sync::Arc;

use arrow_array::{ArrayRef, ArrowPrimitiveType, ListArray, PrimitiveArray};
use arrow_buffer::{NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::Field;

use crate::compute::ComputeError;

/// Builds a `List<T>`; rows are appended by filling a slice.
pub(in crate::compute) struct ListBuilder<T: ArrowPrimitiveType> {
    values: Vec<T::Native>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> ListBuilder<T> {
    /// Returns a builder with room for `rows` rows of `elements` elements in all.
    pub(in crate::compute) fn with_capacity(rows: usize, elements: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { values: Vec::with_capacity(elements), offsets, nulls: NullBufferBuilder::new(rows) }
    }

    pub(in crate::compute) fn push_null(&mut self) {
        self.offsets.push(self.values.len() as i32);
        self.nulls.append_null();
    }

    /// Appends a row of `length` elements and returns it, to be filled.
    pub(in crate::compute) fn push(&mut self, length: usize) -> Result<&mut [T::Native], ComputeError> {
        self.push_rows(std::iter::once(length))
    }

    /// Appends rows of these lengths and returns them as one slice, to be filled.
    pub(in crate::compute) fn push_rows(
        &mut self,
        lengths: impl Iterator<Item = usize>,
    ) -> Result<&mut [T::Native], ComputeError> {
        let start = self.values.len();
        for length in lengths {
            self.push_one(length)?;
        }
        Ok(&mut self.values[start..])
    }

    fn push_one(&mut self, length: usize) -> Result<(), ComputeError> {
        let start = self.values.len();
        let end = start
            .checked_add(length)
            .and_then(|end| i32::try_from(end).ok())
            .ok_or(ComputeError::Overflow { what: "the elements of a list array", limit: i32::MAX as usize })?;
        self.values.resize(end as usize, T::Native::default());
        self.offsets.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    pub(in crate::compute) fn finish(mut self) -> Result<ArrayRef, ComputeError> {
        let field = Arc::new(Field::new_list_field(T::DATA_TYPE, true));
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let values = Arc::new(PrimitiveArray::<T>::new(self.values.into(), None));
        Ok(Arc::new(ListArray::try_new(field, offsets, values, self.nulls.finish())?))
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Array, cast::AsArray, types::Float32Type};

    use super::*;
    use crate::types::weights::weights_type;

    #[test]
    fn rows_are_as_filled_and_of_the_type_of_weights() {
        let mut builder = ListBuilder::<Float32Type>::with_capacity(3, 2);
        builder.push(2).unwrap().copy_from_slice(&[1.0, 2.0]);
        builder.push_null();
        builder.push(0).unwrap();
        let array = builder.finish().unwrap();
        assert_eq!(array.data_type(), &weights_type());
        assert_eq!(array.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[1.0, 2.0][..]);
        assert!(array.is_null(1) && array.is_valid(2));
    }

    #[test]
    fn more_elements_than_offsets_can_count_are_refused() {
        let mut builder = ListBuilder::<Float32Type>::with_capacity(1, 0);
        assert!(matches!(builder.push(1 << 31), Err(ComputeError::Overflow { .. })));
    }
}
