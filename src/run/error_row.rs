//! A function knows the row of a batch that it refused; a reader wants the tensor and its row. Looked up only after a failure.

use std::{fmt, sync::Arc};

use arrow_array::{ArrayRef, cast::AsArray, types::Float32Type};

use crate::{
    compute::ComputeError,
    model::{
        Model,
        part::Run,
        scan::{BATCH_BYTES, Scan},
    },
    storage::error::IoError,
    types::weights::{WEIGHTS, weights_schema},
};

/// A weight that cannot be computed with, or not be stored.
#[derive(Debug)]
pub struct Refused {
    row: usize,
    element: usize,
    /// The weight as it stands in the model.
    stored: f32,
    /// The value that was refused.
    value: f32,
    /// The reason.
    pub error: ComputeError,
    /// The change of the weight in between: "equalized".
    change: &'static str,
}

impl Refused {
    /// Returns the first weight of a tensor's rows that `made` refuses. `made` takes the weights of some rows and the
    /// number of the first in the tensor; rows in its errors count from that one. `change` is the word for what it
    /// does.
    ///
    /// # Errors
    /// Returns an error if the rows cannot be read, or are refused as a whole.
    pub fn first(
        model: &Arc<Model>,
        run: &Run,
        change: &'static str,
        made: impl Fn(&ArrayRef, usize) -> Result<(), ComputeError>,
    ) -> Result<Option<Self>, IoError> {
        let tensor = &model.tensors()[run.tensor];
        if !tensor.dtype.is_float() {
            return Ok(None);
        }
        let column = weights_schema().index_of(WEIGHTS).map_err(IoError::arrow(model.folder()))?;
        let mut first = run.rows.start;
        for batch in Scan::new(Arc::clone(model), model.part(vec![run.clone()]), vec![column], BATCH_BYTES)? {
            let batch = batch?;
            let weights = batch.column(0);
            if let Err(error) = made(weights, first) {
                let (ComputeError::NonFinite { row, element, value }
                | ComputeError::TooLarge { row, element, value, .. }) = error
                else {
                    let path = &model.file_of(tensor).path;
                    return Err(IoError::tensor(path, &tensor.name, error.to_string()));
                };
                let stored = weights.as_list::<i32>().value(row).as_primitive::<Float32Type>().value(element);
                return Ok(Some(Self { row: first + row, element, stored, value, error, change }));
            }
            first += batch.num_rows();
        }
        Ok(None)
    }

    /// Returns true if the stored weight itself is refused.
    pub fn as_stored(&self) -> bool {
        self.stored.to_bits() == self.value.to_bits()
    }
}

/// Writes the place and the value: `row 3, element 5 is 1000, 256000 when equalized`.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}, element {} is {}", self.row, self.element, self.stored)?;
        if self.as_stored() { Ok(()) } else { write!(f, ", {} when {}", self.value, self.change) }
    }
}
