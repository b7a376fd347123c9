//! Reading a part back.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
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

    /// Opens like [`Self::open`], but the rows begin at [`Self::first`], which is at `row` or before: in Parquet not
    /// more than a row group before.
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
                check_blocks(&file)
                    .map_err(IoError::system("read", path))?
                    .map_err(|problem| IoError::file(path, problem))?;
                check_columns(path, &arrow(&file, path, None)?.schema())?;
                (Batches::Arrow(Box::new(Guarded::new(arrow(file, path, Some(projection.to_vec()))?))), 0)
            }
        };
        Ok(Self { path: path.to_owned(), schema, batches, first })
    }

    /// Returns the number of the first row in its part.
    pub const fn first(&self) -> usize {
        self.first
    }

    /// Returns the schema of the batches.
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

/// Returns the row groups from that of a row on, and the rows before them.
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

/// Checks that the footer of an Arrow file, and the blocks that it lists, lie in the file: the reader makes room for a block
/// before it reads it.
fn check_blocks(mut file: &File) -> io::Result<Result<(), String>> {
    let length = file.metadata()?.len();
    let mut tail = [0; TAIL as usize];
    if length < TAIL {
        return Ok(Err(format!("is no Arrow file: it has {length} bytes")));
    }
    file.seek(SeekFrom::Start(length - TAIL))?;
    file.read_exact(&mut tail)?;
    let declared = i32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let footer = u64::try_from(declared).ok().filter(|footer| *footer <= length - TAIL);
    let Some(footer) = footer else {
        return Ok(Err(format!("is damaged: its footer should have {declared} bytes")));
    };
    let mut bytes = vec![0; footer as usize];
    file.seek(SeekFrom::Start(length - TAIL - footer))?;
    file.read_exact(&mut bytes)?;
    file.rewind()?;
    let footer = match arrow_ipc::root_as_footer(&bytes) {
        Ok(footer) => footer,
        Err(error) => return Ok(Err(format!("is damaged: its footer cannot be read: {error}"))),
    };
    let blocks = [footer.dictionaries(), footer.recordBatches()].into_iter().flatten().flatten();
    let ends = |block: &arrow_ipc::Block| {
        let [start, head, body] = [block.offset(), i64::from(block.metaDataLength()), block.bodyLength()]
            .map(|number| u64::try_from(number).ok());
        start?.checked_add(head?)?.checked_add(body?)
    };
    let outside = blocks.into_iter().position(|block| ends(block).is_none_or(|end| end > length));
    Ok(outside.map_or(Ok(()), |number| Err(format!("is damaged: block {number} of its footer lies outside the file"))))
}

/// The bytes at the end of an Arrow file, after its footer: the length of that, and six letters.
const TAIL: u64 = 10;

fn arrow<F: Read + Seek>(file: F, path: &Path, projection: Option<Vec<usize>>) -> Result<FileReader<F>, IoError> {
    let reader = guarded(|| FileReader::try_new(file, projection));
    reader.map_err(|problem| IoError::file(path, problem))?.map_err(IoError::arrow(path))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow_ipc::writer::FileWriter;

    use super::*;

    /// Returns an Arrow file of one block, and where the length of its body is said.
    fn file() -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        let mut writer = FileWriter::try_new(&mut bytes, &output_schema()).unwrap();
        writer.write(&RecordBatch::new_empty(output_schema())).unwrap();
        writer.finish().unwrap();
        drop(writer);
        let end = bytes.len() - TAIL as usize;
        let length = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
        let footer = arrow_ipc::root_as_footer(&bytes[end - length..end]).unwrap();
        let block = footer.recordBatches().unwrap().get(0);
        let at = std::ptr::from_ref(block).addr() + 16 - bytes.as_ptr().addr();
        assert_eq!(bytes[at..at + 8], block.bodyLength().to_le_bytes());
        (bytes, at)
    }

    #[test]
    fn a_block_that_is_longer_than_the_file_is_refused_before_there_is_room_for_it() {
        let (bytes, at) = file();
        let open = |bytes: &[u8]| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(bytes).unwrap();
            let every: Vec<usize> = (0..output_schema().fields().len()).collect();
            PartReader::open(file.path(), PartFormat::Arrow, &every).map(drop).map_err(|error| error.to_string())
        };
        open(&bytes).unwrap();
        for length in [1 << 20, i64::MAX, -1] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&i64::to_le_bytes(length));
            let message = open(&damaged).unwrap_err();
            assert!(message.ends_with("is damaged: block 0 of its footer lies outside the file"), "{message}");
        }
        for length in [i32::MAX, -1] {
            let (mut damaged, end) = (bytes.clone(), bytes.len() - TAIL as usize);
            damaged[end..end + 4].copy_from_slice(&length.to_le_bytes());
            let message = open(&damaged).unwrap_err();
            assert!(message.ends_with(&format!("is damaged: its footer should have {length} bytes")), "{message}");
        }
        assert!(open(&bytes[..5]).unwrap_err().ends_with("is no Arrow file: it has 5 bytes"));
    }
}
