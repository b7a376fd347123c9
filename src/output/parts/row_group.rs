//! Rows cut into row groups whose bounds depend on the rows alone, not on the batches they came in.

use std::{ops::Range, sync::Arc};

use arrow::array::MutableArrayData;
use arrow_array::{
    Array, ArrayRef, RecordBatch, builder::StringViewBuilder, cast::AsArray, make_array, new_null_array,
    types::UInt8Type,
};
use arrow_schema::ArrowError;

use crate::types::{
    output::output_schema,
    quantized::{BITS, CODES, ENTROPY_BITS, ENTROPY_ROW_BYTES, QUANTIZED, SCALES, ZERO_POINTS},
    weights::DATA,
};

/// Stored bytes of a row group, so that a part being written holds a few times this in memory.
pub const ROW_GROUP_BYTES: usize = 1 << 20;

/// The bytes that a row counts for beside its stored bytes: the other columns, and a bound on the number of rows.
const ROW_OVERHEAD: usize = 64;

/// The ends of row groups.
#[derive(Debug, Default)]
pub struct RowGroups {
    bytes: usize,
}

impl RowGroups {
    /// Cuts the rows that come next, given by the bytes that each stores: ranges of them, and whether a group ends there.
    pub fn cut(&mut self, stored: &[usize]) -> Vec<(Range<usize>, bool)> {
        let mut ranges = Vec::new();
        let mut start = 0;
        for (row, stored) in stored.iter().enumerate() {
            self.bytes += stored + ROW_OVERHEAD;
            if self.bytes >= ROW_GROUP_BYTES {
                ranges.push((start..row + 1, true));
                (self.bytes, start) = (0, row + 1);
            }
        }
        if start < stored.len() {
            ranges.push((start..stored.len(), false));
        }
        ranges
    }
}

/// Returns a batch under the output schema itself. Columns are matched by name; nullability and metadata may differ.
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

/// Returns a batch of the output schema that holds what its rows show and nothing else, so that a writer that writes whole
/// buffers writes that alone: no bytes under nulls, and each text once.
///
/// # Errors
/// Returns an error if the columns are not those of the schema.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|column| match column.as_string_view_opt() {
        Some(texts) => {
            let mut builder = StringViewBuilder::with_capacity(texts.len()).with_deduplicate_strings();
            texts.iter().for_each(|text| builder.append_option(text));
            Ok(Arc::new(builder.finish()) as ArrayRef)
        }
        None => without_hidden(column),
    });
    RecordBatch::try_new(output_schema(), columns.collect::<Result<_, _>>()?)
}

/// Copies a column whose nulls may hide bytes: CASE gives the data of a quantized row so. A null takes no bytes here.
fn without_hidden(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let Some(nulls) = column.nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(Arc::clone(column)) };
    let data = column.to_data();
    let mut shown = MutableArrayData::new(vec![&data], true, column.len());
    for (start, end) in nulls.valid_slices() {
        shown.try_extend_nulls(start - shown.len())?;
        shown.try_extend(0, start, end)?;
    }
    shown.try_extend_nulls(column.len() - shown.len())?;
    Ok(make_array(shown.freeze()))
}

/// Returns the bytes that each row stores: codes, scales, zero points and the row's scale of a quantized row, codes and
/// [`ENTROPY_ROW_BYTES`] of one that is entropy-coded, else its data.
pub fn stored_bytes(batch: &RecordBatch) -> Result<Vec<usize>, ArrowError> {
    let missing = |name: &str| ArrowError::SchemaError(format!("the column {name} is missing"));
    let quantized =
        batch.column_by_name(QUANTIZED).and_then(|c| c.as_struct_opt()).ok_or_else(|| missing(QUANTIZED))?;
    let data = batch.column_by_name(DATA).and_then(|c| c.as_binary_opt::<i32>()).ok_or_else(|| missing(DATA))?;
    let binaries = [CODES, SCALES, ZERO_POINTS].map(|name| {
        quantized.column_by_name(name).and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(|| missing(name))
    });
    let bits = quantized.column_by_name(BITS).and_then(|column| column.as_primitive_opt::<UInt8Type>());
    let bits = bits.ok_or_else(|| missing(BITS))?;
    let scale = |row: usize| if bits.value(row) == ENTROPY_BITS { ENTROPY_ROW_BYTES } else { size_of::<f32>() };
    let [codes, scales, zero_points] = binaries;
    let binaries = [codes?, scales?, zero_points?];
    (0..batch.num_rows())
        .map(|row| match (quantized.is_valid(row), data.is_valid(row)) {
            (true, false) => {
                let length = |binary: &&arrow_array::BinaryArray| {
                    if binary.is_valid(row) { binary.value_length(row) as usize } else { 0 }
                };
                Ok(binaries.iter().map(length).sum::<usize>() + scale(row))
            }
            (false, true) => Ok(data.value_length(row) as usize),
            (true, true) => Err(ArrowError::InvalidArgumentError(format!("row {row} has both quantized and data"))),
            (false, false) => {
                Err(ArrowError::InvalidArgumentError(format!("row {row} has neither quantized nor data")))
            }
        })
        .collect()
}
