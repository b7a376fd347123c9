//! Reading a part back.

use std::{
    fs::File,
    io::{Read, Seek},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;
use arrow_ipc::reader::FileReader;
use arrow_schema::{Schema, SchemaRef};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
};

use crate::{
    storage::{
        error::IoError,
        guard::{Guarded, guarded},
    },
    types::{PartFormat, output::output_schema},
};

/// Stored bytes of a batch, about.
const BATCH_BYTES: u64 = 2 << 20;

/// The rows of a part as batches of the output schema.
pub struct PartReader {
    path: PathBuf,
    schema: SchemaRef,
    batches: Batches,
    first: usize,
}

enum Batches {
    Parquet(Box<Guarded<ParquetRecordBatchReader>>),
    Arrow(Box<Guarded<FileReader<File>>>),
}

impl PartReader {
    /// Opens a part. `projection` gives columns of [`output_schema`] by number, in ascending order.
    ///
    /// # Errors
    /// The file is missing, is no part or lacks a column, or there is no such column.
    pub fn open(path: &Path, format: PartFormat, projection: &[usize]) -> Result<Self, IoError> {
        Self::open_near(path, format, projection, 0)
    }

    /// As [`Self::open`], but the rows begin at [`Self::first`], which is at `row` or before: in Parquet not more than a row
    /// group before.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_near(path: &Path, format: PartFormat, projection: &[usize], row: usize) -> Result<Self, IoError> {
        let schema = output_schema();
        if !projection.is_sorted_by(|a, b| a < b) {
            return Err(IoError::Request(format!("the columns {projection:?} of a part are not in ascending order")));
        }
        let schema = schema.project(projection).map_err(IoError::arrow(path))?.into();
        let file = File::open(path).map_err(IoError::system("open", path))?;
        let (batches, first) = match format {
            PartFormat::Parquet => {
                let (batches, first) = parquet(file, path, projection, row)?;
                (Batches::Parquet(Box::new(Guarded::new(batches))), first)
            }
            PartFormat::Arrow => {
                check_columns(path, &arrow(&file, path, None)?.schema())?;
                (Batches::Arrow(Box::new(Guarded::new(arrow(file, path, Some(projection.to_vec()))?))), 0)
            }
        };
        Ok(Self { path: path.to_owned(), schema, batches, first })
    }

    /// The number of the first row in its part.
    pub const fn first(&self) -> usize {
        self.first
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }
}

impl Iterator for PartReader {
    type Item = Result<RecordBatch, IoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match &mut self.batches {
            Batches::Parquet(batches) => batches.next()?,
            Batches::Arrow(batches) => batches.next()?,
        };
        let same = batch.and_then(|batch| {
            // The schema of a file has its own metadata.
            let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(self.schema(), batch.columns().to_vec(), &options)
        });
        Some(same.map_err(IoError::arrow(&self.path)))
    }
}

/// Checks that a file has the columns of a part, each in its place.
fn check_columns(path: &Path, given: &Schema) -> Result<(), IoError> {
    for (number, field) in output_schema().fields().iter().enumerate() {
        let (name, expected) = (field.name(), field.data_type());
        let problem = match given.index_of(name) {
            Err(_) => format!("has no column {name}"),
            Ok(at) if at != number => format!("has the column {name} at place {at}, not {number}"),
            Ok(at) if given.field(at).data_type() != expected => {
                format!("column {name} is {}; {expected} is expected", given.field(at).data_type())
            }
            Ok(_) => continue,
        };
        return Err(IoError::file(path, format!("is not a part: {problem}")));
    }
    Ok(())
}

/// The row groups from that of a row on, and the rows before them.
fn parquet(
    file: File,
    path: &Path,
    projection: &[usize],
    row: usize,
) -> Result<(ParquetRecordBatchReader, usize), IoError> {
    let builder = open_parquet(file, path)?;
    check_columns(path, builder.schema())?;
    let groups = builder.metadata().row_groups();
    let (rows, bytes) = groups.iter().fold((0u64, 0u64), |(rows, bytes), group| {
        let (r, b) = (group.num_rows(), group.total_byte_size());
        (rows.saturating_add(u64::try_from(r).unwrap_or(0)), bytes.saturating_add(u64::try_from(b).unwrap_or(0)))
    });
    let batch_rows = BATCH_BYTES.saturating_mul(rows) / bytes.max(1);
    let (mut passed, mut first) = (0, 0);
    for group in groups {
        let end = usize::try_from(group.num_rows()).unwrap_or(0).saturating_add(first);
        if row < end {
            break;
        }
        (passed, first) = (passed + 1, end);
    }
    let needed = (passed..groups.len()).collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), projection.iter().copied());
    let builder = builder.with_projection(mask).with_batch_size(batch_rows.clamp(1, 8192) as usize);
    let reader = guarded(|| builder.with_row_groups(needed).build());
    let reader = reader.map_err(|problem| IoError::file(path, problem))?.map_err(IoError::parquet(path))?;
    Ok((reader, first))
}

fn open_parquet(file: File, path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, IoError> {
    let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(file));
    builder.map_err(|problem| IoError::file(path, problem))?.map_err(IoError::parquet(path))
}

fn arrow<F: Read + Seek>(file: F, path: &Path, projection: Option<Vec<usize>>) -> Result<FileReader<F>, IoError> {
    let reader = guarded(|| FileReader::try_new(file, projection));
    reader.map_err(|problem| IoError::file(path, problem))?.map_err(IoError::arrow(path))
}
