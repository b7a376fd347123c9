//! Small tables as Parquet: written, and read by the names and types of columns that are expected.

use std::{fs::File, path::Path};

use arrow::compute::cast;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    file::properties::WriterProperties,
};

use super::{
    atomic_file::write_renamed,
    error::IoError,
    guard::{Guarded, guarded},
};

/// Opens the Parquet file at `path` and reads the columns of `schema`, `rows` at a time. `what` is what the rows are, for
/// the message of an error.
///
/// # Errors
/// Returns an error if the file cannot be read, or lacks a column.
pub fn open(
    path: &Path,
    schema: &Schema,
    what: &str,
    rows: usize,
) -> Result<Guarded<ParquetRecordBatchReader>, IoError> {
    let file = File::open(path).map_err(IoError::system("open", path))?;
    let damaged = |problem| IoError::file(path, problem);
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(file)).map_err(damaged)?;
    let builder = builder.map_err(IoError::parquet(path))?;
    let mut roots = Vec::new();
    for field in schema.fields() {
        let root = builder.schema().index_of(field.name());
        roots.push(root.map_err(|_| {
            let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            IoError::file(path, format!("has no column {}; {what} have {}", field.name(), names.join(", ")))
        })?);
    }
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
    let reader = guarded(|| builder.with_projection(mask).with_batch_size(rows).build()).map_err(damaged)?;
    reader.map(Guarded::new).map_err(IoError::parquet(path))
}

/// Returns a column of a batch, in the type that the schema gives it.
///
/// # Errors
/// Returns an error if the column is missing, or of a type that does not fit.
pub fn column(path: &Path, batch: &RecordBatch, schema: &Schema, name: &str) -> Result<ArrayRef, IoError> {
    let wanted = schema.field_with_name(name).map_err(IoError::arrow(path))?.data_type();
    let given = batch.column_by_name(name).ok_or_else(|| IoError::file(path, format!("has no column {name}")))?;
    if !fits(given.data_type(), wanted) {
        return Err(IoError::file(path, format!("column {name} must be {wanted}, not {}", given.data_type())));
    }
    cast(given, wanted).map_err(IoError::arrow(path))
}

/// Returns true if a column's type is the wanted one in another width or layout.
fn fits(given: &DataType, wanted: &DataType) -> bool {
    match wanted {
        // A column of nulls alone, such as a query gives for NULL.
        _ if *given == DataType::Null => true,
        DataType::Utf8View => match given {
            DataType::Dictionary(_, values) => values.is_string(),
            other => other.is_string(),
        },
        DataType::Float64 => given.is_numeric(),
        DataType::Int64 => given.is_integer(),
        DataType::List(wanted) => match given {
            DataType::List(element) | DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
                let (element, wanted) = (element.data_type(), wanted.data_type());
                match wanted {
                    _ if wanted.is_string() => element.is_string(),
                    _ if wanted.is_integer() => element.is_integer(),
                    _ => element.is_floating(),
                }
            }
            _ => false,
        },
        _ => given == wanted,
    }
}

/// Writes a small table to a folder, as Parquet.
///
/// # Errors
/// Returns an error if it cannot be written.
pub fn write_table(folder: &Path, name: &str, table: &RecordBatch) -> Result<(), IoError> {
    let path = folder.join(name);
    let properties = WriterProperties::builder()
        .set_created_by(concat!("arrow-quant ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut bytes = Vec::new();
    let write = || {
        let mut writer = ArrowWriter::try_new(&mut bytes, table.schema(), Some(properties))?;
        writer.write(table)?;
        writer.close()
    };
    write().map_err(IoError::parquet(&path))?;
    write_renamed(&path, &bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::types::activations::activations_schema;

    #[test]
    fn a_footer_with_any_byte_changed_is_read_or_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let schema = activations_schema();
        write_table(folder.path(), "a.parquet", &RecordBatch::new_empty(schema.clone())).unwrap();
        let path = folder.path().join("a.parquet");
        let whole = fs::read(&path).unwrap();
        let (mut read, mut refused) = (0, 0);
        for at in 0..whole.len() {
            for change in [1, 0x10, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                fs::write(&path, bytes).unwrap();
                let batches = open(&path, &schema, "activations", 1).map(Iterator::collect::<Result<Vec<_>, _>>);
                if matches!(batches, Ok(Ok(_))) { read += 1 } else { refused += 1 }
            }
        }
        assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
    }
}
