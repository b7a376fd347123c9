//! Writing a part: every row where it belongs, the same bytes however the rows came, whole or not there.

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_ipc::writer::FileWriter;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use super::{
    ErrorSums, Manifest, OutputFormat, TensorReport,
    digest::Digesting,
    row_group::{RowGroups, conform, stored_bytes},
    row_order::RowOrder,
};
use crate::{
    io::IoError,
    types::{
        output::output_schema,
        weights::{CHANNEL, NAME},
    },
};

/// The key in a part's footer under which its [`TensorReport`]s stand, as JSON.
pub(super) const REPORT_KEY: &str = "arrow_quant.report";

/// A part being written. Dropped before [`Self::finish`], it leaves a file whose name ends in `.tmp`.
pub struct PartWriter {
    path: PathBuf,
    temporary: PathBuf,
    sink: Sink,
    groups: RowGroups,
    order: RowOrder,
    reports: Vec<TensorReport>,
}

/// A finished part.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenPart {
    /// The length of its file.
    pub bytes: u64,
    /// The BLAKE3 digest of its file, in hex.
    pub digest: String,
    /// What it says of each tensor that it holds rows of.
    pub reports: Vec<TensorReport>,
}

enum Sink {
    Parquet(Box<ArrowWriter<Digesting<File>>>),
    Arrow(Box<FileWriter<Digesting<File>>>),
}

impl PartWriter {
    /// Begins a part of a manifest in a folder; an unfinished file of the same part is overwritten.
    ///
    /// # Errors
    /// The manifest has no such part, or the file cannot be created.
    pub fn create(folder: &Path, manifest: &Manifest, number: usize) -> Result<Self, IoError> {
        let part = manifest
            .parts
            .get(number)
            .ok_or_else(|| IoError::file(folder, format!("has {} parts, no part {number}", manifest.parts.len())))?;
        let path = folder.join(&part.file);
        let temporary = folder.join(format!("{}.tmp", part.file));
        let file = File::create(&temporary).map_err(IoError::system("create", &temporary))?;
        let sink = Sink::new(Digesting::new(file), manifest.output_format, &temporary)?;
        let order = RowOrder::new(manifest, part);
        Ok(Self { path, temporary, sink, groups: RowGroups::default(), order, reports: Vec::new() })
    }

    /// Adds rows: a batch with the columns of [`output_schema`], matched by name. The rows must come in the order of the
    /// part; how they are cut into batches makes no difference to the file.
    ///
    /// # Errors
    /// A column is missing or of another type, a row is not the one that comes next, has both or neither of quantized
    /// value and data, or the file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        let batch = conform(batch).map_err(IoError::arrow(&self.path))?;
        let stored = stored_bytes(&batch).map_err(IoError::arrow(&self.path))?;
        self.account(&batch, &stored)?;
        for group in self.groups.push(&batch, &stored).map_err(IoError::arrow(&self.path))? {
            self.sink.write(&group, &self.temporary)?;
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

    /// Completes the part: writes the error sums of its rows, by tensor name, to the footer, and renames it into place.
    ///
    /// # Errors
    /// Rows are missing, or the file cannot be written.
    pub fn finish(mut self, errors: &HashMap<String, ErrorSums>) -> Result<WrittenPart, IoError> {
        self.order.finish(&self.path)?;
        if let Some(group) = self.groups.take().map_err(IoError::arrow(&self.path))? {
            self.sink.write(&group, &self.temporary)?;
        }
        for report in &mut self.reports {
            report.errors = errors.get(&report.name).copied();
        }
        let json = serde_json::to_string(&self.reports)
            .map_err(|error| IoError::file(&self.path, format!("its report cannot be written: {error}")))?;
        let (file, bytes, digest) = self.sink.finish(json, &self.temporary)?.into_parts();
        file.sync_all().map_err(IoError::system("write", &self.temporary))?;
        std::fs::rename(&self.temporary, &self.path).map_err(IoError::system("rename into place", &self.path))?;
        Ok(WrittenPart { bytes, digest, reports: self.reports })
    }
}

impl Sink {
    fn new(file: Digesting<File>, format: OutputFormat, path: &Path) -> Result<Self, IoError> {
        Ok(match format {
            OutputFormat::Safetensors | OutputFormat::CompressedTensors | OutputFormat::Gguf => {
                return Err(IoError::file(path, format!("cannot be a part: {format} has none")));
            }
            OutputFormat::Parquet => Self::Parquet(Box::new(
                ArrowWriter::try_new(file, output_schema(), Some(properties())).map_err(IoError::parquet(path))?,
            )),
            OutputFormat::Arrow => {
                Self::Arrow(Box::new(FileWriter::try_new(file, &output_schema()).map_err(IoError::arrow(path))?))
            }
        })
    }

    /// Writes a row group.
    fn write(&mut self, group: &RecordBatch, path: &Path) -> Result<(), IoError> {
        match self {
            Self::Parquet(writer) => writer.write(group).and_then(|()| writer.flush()).map_err(IoError::parquet(path)),
            Self::Arrow(writer) => writer.write(group).map_err(IoError::arrow(path)),
        }
    }

    /// Writes the footer.
    fn finish(self, report: String, path: &Path) -> Result<Digesting<File>, IoError> {
        match self {
            Self::Parquet(mut writer) => {
                writer.append_key_value_metadata(KeyValue::new(REPORT_KEY.to_owned(), report));
                writer.into_inner().map_err(IoError::parquet(path))
            }
            Self::Arrow(mut writer) => {
                writer.write_metadata(REPORT_KEY, report);
                writer.finish().and_then(|()| writer.into_inner()).map_err(IoError::arrow(path))
            }
        }
    }
}

/// How parts are stored as Parquet: codes and data as they are, since they do not compress; the columns that repeat a
/// value for every row of a tensor as dictionaries, which take next to nothing.
fn properties() -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("arrow-quant ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::UNCOMPRESSED)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        // Pages are looked at every so many values: rows are fat.
        .set_write_batch_size(64);
    for column in
        ["name", "module", "dtype", "shape.list.item", "quantized.bits", "quantized.group_size", "quantized.length"]
    {
        let column = ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
        properties = properties.set_column_dictionary_enabled(column, true);
    }
    for column in ["name", "channel"] {
        properties = properties.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    properties.set_column_encoding(ColumnPath::from("channel"), Encoding::DELTA_BINARY_PACKED).build()
}

#[cfg(test)]
pub(in crate::io) mod tests;
