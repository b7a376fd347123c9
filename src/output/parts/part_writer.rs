//! Writing a part: every row where it belongs, the same bytes however the rows came, whole or not there.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use arrow::compute::concat_batches;
use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_ipc::writer::FileWriter;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    file::properties::{EnabledStatistics, WriterProperties},
    schema::types::ColumnPath,
};

use super::{
    pending_part::{PendingPart, WrittenPart},
    row_group::{ROW_GROUP_BYTES, RowGroups, compact, conform, stored_bytes},
    row_order::RowOrder,
};
use crate::{
    storage::{
        digest::Digesting,
        error::IoError,
        folder::{manifest::Manifest, row_digest::Contents, tensor_report::TensorReport},
    },
    types::{
        ErrorSums, PartFormat,
        output::output_schema,
        weights::{CHANNEL, NAME},
    },
};

/// A part being written to a file whose name ends in `.tmp`, until it is [committed](PendingPart::commit).
pub struct PartWriter {
    path: PathBuf,
    temporary: PathBuf,
    sink: Sink,
    groups: RowGroups,
    order: RowOrder,
    reports: Vec<TensorReport>,
    contents: Contents,
}

enum Sink {
    Parquet(Box<ArrowWriter<Digesting<File>>>),
    /// Beside it the rows that wait for their row group to end.
    Arrow(Box<FileWriter<Digesting<File>>>, Vec<RecordBatch>),
}

impl PartWriter {
    /// Begins a part of a manifest in a folder; an unfinished file of the same part is overwritten.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part, or the file cannot be created.
    pub fn create(folder: &Path, manifest: &Manifest, number: usize) -> Result<Self, IoError> {
        let part = manifest.part(folder, number)?;
        let PendingPart::File { temporary, path, format } = PendingPart::of_file(folder, manifest, number)? else {
            return Err(IoError::file(folder, "has no parts"));
        };
        let file = File::create(&temporary).map_err(IoError::system("create", &temporary))?;
        let sink = Sink::new(Digesting::new(file), format, properties(manifest.is_entropy()), &temporary)?;
        Ok(Self {
            path,
            temporary,
            sink,
            groups: RowGroups::default(),
            order: RowOrder::new(manifest, part),
            reports: Vec::new(),
            contents: Contents::default(),
        })
    }

    /// Adds rows: a batch with the columns of [`output_schema`], matched by name. The rows must come in the order of the
    /// part; how they are cut into batches makes no difference to the file.
    ///
    /// # Errors
    /// Returns an error if a column is missing or of another type, a row is not the one that comes next, has both or
    /// neither of quantized value and data, or the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        let batch = conform(batch).map_err(IoError::arrow(&self.path))?;
        let stored = stored_bytes(&batch).map_err(IoError::arrow(&self.path))?;
        self.account(&batch, &stored)?;
        self.contents.add(&batch).map_err(IoError::arrow(&self.path))?;
        for (rows, full) in self.groups.cut(&stored) {
            self.sink.write(batch.slice(rows.start, rows.len()), &self.temporary)?;
            if full {
                self.sink.end_group(&self.temporary)?;
            }
        }
        Ok(())
    }

    /// Checks that the rows are those expected, and counts them.
    fn account(&mut self, batch: &RecordBatch, stored: &[usize]) -> Result<(), IoError> {
        let schema = output_schema();
        let column =
            |name: &str| schema.index_of(name).map(|index| batch.column(index)).map_err(IoError::arrow(&self.path));
        let (names, channels) = (column(NAME)?, column(CHANNEL)?);
        let (names, channels) = (names.as_string_view(), channels.as_primitive::<Int64Type>());
        for (row, stored) in stored.iter().enumerate() {
            let name = names.value(row);
            self.order.next(&self.path, name, channels.value(row))?;
            match self.reports.last_mut().filter(|report| report.name == name) {
                Some(report) => report.add(*stored),
                None => self.reports.push(TensorReport::new(name.to_owned(), *stored)),
            }
        }
        Ok(())
    }

    /// Completes the part but for its name and the wait for the disk. `errors` are the error sums of its rows, by tensor name.
    ///
    /// # Errors
    /// Returns an error if rows are missing, or the file cannot be written.
    pub fn finish(mut self, errors: &HashMap<String, ErrorSums>) -> Result<WrittenPart, IoError> {
        self.order.finish(&self.path)?;
        self.sink.end_group(&self.temporary)?;
        for (report, (_, content)) in self.reports.iter_mut().zip(self.contents.finish()) {
            report.errors = errors.get(&report.name).copied();
            report.content = content;
        }
        let (_, bytes, digest) = self.sink.finish(&self.temporary)?.into_parts();
        Ok(WrittenPart { bytes, digest, source: String::new(), checked: false, reports: self.reports })
    }
}

impl Sink {
    fn new(
        file: Digesting<File>,
        format: PartFormat,
        properties: WriterProperties,
        path: &Path,
    ) -> Result<Self, IoError> {
        Ok(match format {
            PartFormat::Parquet => Self::Parquet(Box::new(
                ArrowWriter::try_new(file, output_schema(), Some(properties)).map_err(IoError::parquet(path))?,
            )),
            PartFormat::Arrow => {
                let writer = FileWriter::try_new(file, &output_schema()).map_err(IoError::arrow(path))?;
                Self::Arrow(Box::new(writer), Vec::new())
            }
        })
    }

    /// Writes rows of a row group. How those of one group are cut makes no difference to the file.
    fn write(&mut self, rows: RecordBatch, path: &Path) -> Result<(), IoError> {
        match self {
            Self::Parquet(writer) => writer.write(&rows).map_err(IoError::parquet(path))?,
            Self::Arrow(_, waiting) => waiting.push(rows),
        }
        Ok(())
    }

    /// Ends a row group, if it has rows.
    fn end_group(&mut self, path: &Path) -> Result<(), IoError> {
        match self {
            Self::Parquet(writer) => writer.flush().map_err(IoError::parquet(path)),
            Self::Arrow(_, waiting) if waiting.is_empty() => Ok(()),
            Self::Arrow(writer, waiting) => {
                let rows = std::mem::take(waiting);
                let mut write = || writer.write(&compact(&concat_batches(&output_schema(), &rows)?)?);
                write().map_err(IoError::arrow(path))
            }
        }
    }

    /// Writes the footer.
    fn finish(self, path: &Path) -> Result<Digesting<File>, IoError> {
        match self {
            Self::Parquet(writer) => writer.into_inner().map_err(IoError::parquet(path)),
            Self::Arrow(mut writer, _) => {
                writer.finish().and_then(|()| writer.into_inner()).map_err(IoError::arrow(path))
            }
        }
    }
}

/// The columns that repeat a value for every row of a tensor.
const REPEATED: [&str; 7] =
    ["name", "module", "dtype", "shape.list.item", "quantized.bits", "quantized.group_size", "quantized.length"];

/// Returns the Parquet properties of parts: codes and data uncompressed, since they do not compress; the columns that repeat a
/// value for every row of a tensor as dictionaries, which take next to nothing. Rows of entropy-coded weights are short: the lengths of
/// their codes are stored as differences, and steps that repeat and empty scales as dictionaries.
fn properties(entropy: bool) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("arrow-quant ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        // One page for each column of a row group, so that pages do not depend on how its rows came.
        .set_data_page_size_limit(4 * ROW_GROUP_BYTES)
        .set_data_page_row_count_limit(ROW_GROUP_BYTES);
    let path = |column: &str| ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
    for column in REPEATED {
        properties = properties.set_column_dictionary_enabled(path(column), true);
    }
    if entropy {
        for column in ["quantized.row_scale", "quantized.scales"] {
            properties = properties.set_column_dictionary_enabled(path(column), true);
        }
        properties = properties.set_column_encoding(path("quantized.codes"), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    for column in ["name", "channel"] {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    properties.set_column_encoding(ColumnPath::from("channel"), Encoding::DELTA_BINARY_PACKED).build()
}

#[cfg(test)]
mod tests;
