//! The error of this layer: what was wrong, in which file, tensor and row, and what is accepted.

use std::{
    io,
    path::{Path, PathBuf},
};

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

use super::escape::escaped;
use crate::{
    compute::ComputeError,
    types::weights::{CHANNEL, NAME},
};

/// An error of reading a model or writing its quantized form. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operating system refused: no such file, no permission, no space left.
    #[error("{}: cannot {action}: {source}", escaped(&path.display()))]
    System {
        /// The file or folder.
        path: PathBuf,
        /// The action that failed: `open`, `write` ...
        action: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file, or a folder as a whole, is not what is accepted.
    #[error("{}: {}", escaped(&path.display()), escaped(problem))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The problem, and what is accepted.
        problem: String,
    },
    /// One tensor of a file is not what is accepted.
    #[error("{}: tensor '{}': {}", escaped(&path.display()), escaped(tensor), escaped(problem))]
    Tensor {
        /// The file that holds it.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// The problem, and what is accepted.
        problem: String,
    },
    /// A row of a tensor that cannot be quantized or decoded.
    #[error("{}: tensor '{}', row {channel}: {}", escaped(&path.display()), escaped(tensor), without_row(source))]
    Row {
        /// The file or folder that holds it.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The row's number in the tensor.
        channel: i64,
        /// The problem; its row counts from the start of the batch.
        source: ComputeError,
    },
    /// Arrays that cannot be computed with.
    #[error("{}: {}", escaped(&path.display()), escaped(source))]
    Compute {
        /// The file or folder that they come from.
        path: PathBuf,
        /// The problem.
        source: ComputeError,
    },
    /// The operating system refused a thread, or what a thread needs.
    #[error("cannot start the threads: {0}; allow more (ulimit -u, -v and -n), or use fewer with `threads`")]
    Threads(io::Error),
    /// An option, a pattern or a request that cannot be carried out.
    #[error("{}", escaped(.0))]
    Request(String),
    /// Arrow refused to build or to read a batch.
    #[error("{}: {}", escaped(&path.display()), escaped(source))]
    Arrow {
        /// The file that was read or written.
        path: PathBuf,
        /// Arrow's answer.
        source: ArrowError,
    },
    /// The Parquet reader or writer refused.
    #[error("{}: {}", escaped(&path.display()), escaped(source))]
    Parquet {
        /// The file that was read or written.
        path: PathBuf,
        /// Parquet's answer.
        source: ParquetError,
    },
}

impl IoError {
    /// Returns a function that wraps the operating system's error: `.map_err(IoError::system("open", path))`.
    pub fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { path: path.to_owned(), action, source }
    }

    /// Returns a function that wraps Arrow's error. An error of the operating system inside it becomes [`Self::System`].
    pub fn arrow(path: &Path) -> impl FnOnce(ArrowError) -> Self {
        move |source| match source {
            ArrowError::IoError(_, source) => Self::System { path: path.to_owned(), action: "read or write", source },
            source => Self::Arrow { path: path.to_owned(), source },
        }
    }

    /// Returns a function that wraps Parquet's error. An error of the operating system inside it becomes [`Self::System`].
    pub fn parquet(path: &Path) -> impl FnOnce(ParquetError) -> Self {
        move |source| {
            let path = path.to_owned();
            match source {
                ParquetError::External(source) => match source.downcast::<io::Error>() {
                    Ok(source) => Self::System { path, action: "read or write", source: *source },
                    Err(source) => Self::Parquet { path, source: ParquetError::External(source) },
                },
                source => Self::Parquet { path, source },
            }
        }
    }

    /// Returns a function that wraps the array layer's error: names tensor and row where the batch it came from has them, in
    /// columns `name` and `channel`.
    pub fn compute<'a>(path: &'a Path, batch: &'a RecordBatch) -> impl FnOnce(ComputeError) -> Self + 'a {
        move |source| {
            let path = path.to_owned();
            match place(batch, source.row()) {
                Some((tensor, channel)) => Self::Row { path, tensor, channel, source },
                None => Self::Compute { path, source },
            }
        }
    }

    /// Returns a file or folder that is not what is accepted.
    pub fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }

    /// Returns a tensor that is not what is accepted.
    pub fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }
}

/// Returns the tensor and channel of a row of a batch.
fn place(batch: &RecordBatch, row: Option<usize>) -> Option<(String, i64)> {
    let row = row.filter(|row| *row < batch.num_rows())?;
    let names = batch.column_by_name(NAME)?.as_string_view_opt()?;
    let channels = batch.column_by_name(CHANNEL)?.as_primitive_opt::<Int64Type>()?;
    (names.is_valid(row) && channels.is_valid(row)).then(|| (names.value(row).to_owned(), channels.value(row)))
}

/// Returns a message without the row of the batch that it begins with: the row of the tensor stands before it.
pub(crate) fn without_row(error: &ComputeError) -> String {
    let message = error.to_string();
    let row = error.row().map(|row| format!("row {row}")).unwrap_or_default();
    message.strip_prefix(&row).unwrap_or(&message).trim_start_matches([',', ':', ' ']).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, StringViewArray};

    use super::*;

    #[test]
    fn an_error_of_a_row_names_its_tensor_and_channel() {
        let names: ArrayRef = Arc::new(StringViewArray::from(vec!["v", "w"]));
        let channels: ArrayRef = Arc::new(Int64Array::from(vec![9, 5]));
        let batch = RecordBatch::try_from_iter([("name", Arc::clone(&names)), ("channel", channels)]).unwrap();
        let error = ComputeError::NonFinite { row: 1, element: 7, value: f32::NAN };
        let message = IoError::compute(Path::new("a"), &batch)(error).to_string();
        assert_eq!(message, "a: tensor 'w', row 5: element 7 is NaN; only finite values are accepted");
        let batch = RecordBatch::try_from_iter([("name", names)]).unwrap();
        let error = ComputeError::NonFinite { row: 1, element: 7, value: f32::NAN };
        let message = IoError::compute(Path::new("a"), &batch)(error).to_string();
        assert_eq!(message, "a: row 1, element 7 is NaN; only finite values are accepted");
    }

    #[test]
    fn a_full_disk_reads_the_same_whichever_writer_met_it() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let parquet = IoError::parquet(Path::new("a"))(full().into()).to_string();
        let arrow = IoError::arrow(Path::new("a"))(full().into()).to_string();
        assert_eq!((parquet.as_str(), parquet == arrow), ("a: cannot read or write: no storage space", true));
    }

    #[test]
    fn a_message_names_the_file_and_the_tensor() {
        let path = Path::new("a/model.safetensors");
        assert_eq!(IoError::tensor(path, "w", "bad").to_string(), "a/model.safetensors: tensor 'w': bad");
        let message = IoError::tensor(Path::new("a\nb"), "w\u{1b}[2J", "is no 'x\ty'").to_string();
        assert_eq!(message, r"a\nb: tensor 'w\u{1b}[2J': is no 'x\ty'");
        let missing = IoError::system("open", path)(io::ErrorKind::NotFound.into()).to_string();
        assert_eq!(missing, "a/model.safetensors: cannot open: entity not found");
    }
}
