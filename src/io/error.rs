//! The error of this layer: what was wrong, in which file, tensor and row, and what is accepted.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An error of reading a model or writing its quantized form. Every message is one line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The operating system refused: no such file, no permission, no space left.
    #[error("{}: cannot {action}: {source}", path.display())]
    System {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `open`, `write` ...
        action: &'static str,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A file, or a folder as a whole, is not what is accepted.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it, and what is accepted.
        problem: String,
    },
    /// One tensor of a file is not what is accepted.
    #[error("{}: tensor '{tensor}': {problem}", path.display())]
    Tensor {
        /// The file that holds it.
        path: PathBuf,
        /// Its name.
        tensor: String,
        /// What is wrong with it, and what is accepted.
        problem: String,
    },
    /// An option, a pattern or a request that cannot be carried out.
    #[error("{0}")]
    Request(String),
    /// Arrow refused to build or to read a batch.
    #[error("{}: {source}", path.display())]
    Arrow {
        /// The file that was read or written.
        path: PathBuf,
        /// Arrow's answer.
        source: arrow_schema::ArrowError,
    },
    /// The Parquet reader or writer refused.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file that was read or written.
        path: PathBuf,
        /// Parquet's answer.
        source: parquet::errors::ParquetError,
    },
}

impl IoError {
    /// What turns the operating system's error into ours: `.map_err(IoError::system("open", path))`.
    pub fn system(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { path: path.to_owned(), action, source }
    }

    /// What turns Arrow's error into ours.
    pub fn arrow(path: &Path) -> impl FnOnce(arrow_schema::ArrowError) -> Self {
        move |source| Self::Arrow { path: path.to_owned(), source }
    }

    /// What turns Parquet's error into ours.
    pub fn parquet(path: &Path) -> impl FnOnce(parquet::errors::ParquetError) -> Self {
        move |source| Self::Parquet { path: path.to_owned(), source }
    }

    /// A file or folder that is not what is accepted.
    pub fn file(path: &Path, problem: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), problem: problem.into() }
    }

    /// A tensor that is not what is accepted.
    pub fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_the_file_and_the_tensor() {
        let path = Path::new("a/model.safetensors");
        assert_eq!(IoError::tensor(path, "w", "bad").to_string(), "a/model.safetensors: tensor 'w': bad");
        let missing = IoError::system("open", path)(io::ErrorKind::NotFound.into()).to_string();
        assert_eq!(missing, "a/model.safetensors: cannot open: entity not found");
    }
}
