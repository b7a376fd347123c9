//! The batches of a query as an Arrow stream: each is computed when it is asked for.

use std::sync::{Arc, atomic::AtomicBool};

use arrow_array::{ArrayRef, StructArray};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;
use pyo3::prelude::*;
use pyo3_arrow::ffi::ArrayReader;

use crate::runtime::wait;

/// The stream of a query that has been started.
pub struct QueryReader {
    cancel: Arc<AtomicBool>,
    /// Nothing after the end, an error or Ctrl-C.
    stream: Option<SendableRecordBatchStream>,
    field: FieldRef,
}

/// Batches as arrays of structs: what the C stream interface calls a table.
pub fn table_field(schema: &Schema) -> FieldRef {
    let field = Field::new("", DataType::Struct(schema.fields().clone()), false);
    Arc::new(field.with_metadata(schema.metadata().clone()))
}

impl QueryReader {
    /// Returns the rows of `stream`, until `cancel` is set.
    pub fn new(stream: SendableRecordBatchStream, cancel: Arc<AtomicBool>) -> Self {
        let field = table_field(&stream.schema());
        Self { cancel, stream: Some(stream), field }
    }
}

impl Iterator for QueryReader {
    type Item = Result<ArrayRef, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut stream = self.stream.take()?;
        let next = async move {
            let batch = stream.next().await;
            (stream, batch)
        };
        match Python::attach(|py| wait(py, &self.cancel, next)) {
            Ok((stream, Some(Ok(batch)))) => {
                self.stream = Some(stream);
                Some(Ok(Arc::new(StructArray::from(batch))))
            }
            Ok((_, Some(Err(error)))) => Some(Err(ArrowError::ExternalError(Box::new(error)))),
            Ok((_, None)) => None,
            Err(interrupted) => Some(Err(ArrowError::ExternalError(Box::new(interrupted)))),
        }
    }
}

impl ArrayReader for QueryReader {
    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }
}
