//! Rows gathered to row groups whose bounds depend on the rows alone, not on the batches they came in.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, new_null_array};
use arrow_schema::ArrowError;

use crate::types::{
    output::output_schema,
    quantized::{CODES, QUANTIZED, SCALES, ZERO_POINTS},
    weights::DATA,
};

/// Stored bytes of a row group, so that a part being written holds a few times this in memory.
const ROW_GROUP_BYTES: usize = 1 << 20;

/// What a row counts for beside its stored bytes: the other columns, and a bound on the number of rows.
const ROW_OVERHEAD: usize = 64;

/// Rows that wait for their row group to be full.
#[derive(Debug, Default)]
pub struct RowGroups {
    pending: Vec<RecordBatch>,
    bytes: usize,
}

impl RowGroups {
    /// Adds rows, given with the bytes that each stores; gives the row groups that are full.
    pub fn push(&mut self, batch: &RecordBatch, stored: &[usize]) -> Result<Vec<RecordBatch>, ArrowError> {
        let mut full = Vec::new();
        let mut start = 0;
        for (row, stored) in stored.iter().enumerate() {
            self.bytes += stored + ROW_OVERHEAD;
            if self.bytes >= ROW_GROUP_BYTES {
                self.pending.push(batch.slice(start, row + 1 - start));
                full.extend(self.take()?);
                start = row + 1;
            }
        }
        if start < batch.num_rows() {
            self.pending.push(batch.slice(start, batch.num_rows() - start));
        }
        Ok(full)
    }

    /// The rows that wait, as a row group; none: no row waits.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        self.bytes = 0;
        let pending = std::mem::take(&mut self.pending);
        if pending.is_empty() {
            return Ok(None);
        }
        let batch = concat_batches(&output_schema(), &pending)?;
        // Views keep the text of every tensor's name alive, and the Arrow format would write it.
        let columns = batch.columns().iter().map(|column| match column.as_string_view_opt() {
            Some(views) => Arc::new(views.gc()) as ArrayRef,
            None => Arc::clone(column),
        });
        RecordBatch::try_new(output_schema(), columns.collect()).map(Some)
    }
}

/// A batch under the output schema itself. Columns are matched by name; nullability and metadata may differ.
pub fn conform(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = output_schema();
    let columns = schema.fields().iter().map(|field| {
        let column = batch
            .column_by_name(field.name())
            .ok_or_else(|| ArrowError::SchemaError(format!("the column {} is missing", field.name())))?;
        if column.null_count() == column.len() && field.is_nullable() {
            // A column of nulls may keep alive what it hides: CASE gives the data of every quantized row that way.
            Ok(new_null_array(field.data_type(), column.len()))
        } else if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            arrow::compute::cast(column, field.data_type())
        }
    });
    RecordBatch::try_new(Arc::clone(&schema), columns.collect::<Result<_, _>>()?)
}

/// The bytes that each row stores: codes, scales, zero points and the row's scale of a quantized row, else its data.
pub fn stored_bytes(batch: &RecordBatch) -> Result<Vec<usize>, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("the column {name} is missing"));
    let quantized =
        batch.column_by_name(QUANTIZED).and_then(|c| c.as_struct_opt()).ok_or_else(|| missing(QUANTIZED))?;
    let data = batch.column_by_name(DATA).and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(|| missing(DATA))?;
    let binaries = [CODES, SCALES, ZERO_POINTS].map(|name| {
        quantized.column_by_name(name).and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(|| missing(name))
    });
    let [codes, scales, zero_points] = binaries;
    let binaries = [codes?, scales?, zero_points?];
    (0..batch.num_rows())
        .map(|row| match (quantized.is_valid(row), data.is_valid(row)) {
            (true, false) => {
                let length = |binary: &&arrow_array::BinaryArray| {
                    if binary.is_valid(row) { binary.value_length(row) as usize } else { 0 }
                };
                Ok(binaries.iter().map(length).sum::<usize>() + size_of::<f32>())
            }
            (false, true) => Ok(data.value_length(row) as usize),
            (true, true) => Err(ArrowError::InvalidArgumentError(format!("row {row} has both quantized and data"))),
            (false, false) => {
                Err(ArrowError::InvalidArgumentError(format!("row {row} has neither quantized nor data")))
            }
        })
        .collect()
}
