//! The tensors table: one row per tensor.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringViewArray};

use super::{Model, labels::shapes, tensor::Tensor};
use crate::{storage::error::IoError, types::tensors::tensors_schema};

impl Model {
    /// Returns the tensors table: one row per tensor.
    ///
    /// # Errors
    /// Returns an error if there are more than `i32::MAX` dimensions in total, which no model has.
    pub fn tensors_batch(&self) -> Result<RecordBatch, IoError> {
        self.tensors_batch_of(&(0..self.tensors.len()).collect::<Vec<_>>())
    }

    /// Returns the same of the tensors with these numbers alone.
    ///
    /// # Errors
    /// Returns the errors of [`Self::tensors_batch`].
    pub(crate) fn tensors_batch_of(&self, numbers: &[usize]) -> Result<RecordBatch, IoError> {
        let every = || numbers.iter().map(|tensor| (*tensor, 1));
        let tensors = || numbers.iter().map(|tensor| &self.tensors[*tensor]);
        let count_of = |number: fn(&Tensor) -> usize| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(tensors().map(|tensor| number(tensor) as i64)))
        };
        let files = tensors().map(|tensor| self.file_of(tensor).name.as_str());
        let batch = || {
            RecordBatch::try_new(
                tensors_schema(),
                vec![
                    Arc::new(self.labels.names.repeated(every())?),
                    Arc::new(tensors().map(|tensor| tensor.layer).collect::<Int32Array>()),
                    Arc::new(self.labels.modules.repeated(every())?),
                    Arc::new(self.labels.dtypes.repeated(every())?),
                    Arc::new(shapes(tensors().map(|tensor| (tensor, 1)))?),
                    count_of(Tensor::elements),
                    count_of(Tensor::bytes),
                    count_of(|tensor| tensor.rows),
                    count_of(|tensor| tensor.row_length),
                    Arc::new(StringViewArray::from_iter_values(files)),
                ],
            )
        };
        batch().map_err(IoError::arrow(&self.folder))
    }
}
