//! A part whose rows are all written: what is left is to wait for the disk and to give it its name.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    storage::{
        error::IoError,
        folder::{part_reader::PartReader, row_digest::Contents, tensor_report::TensorReport},
    },
    types::{OutputFormat, output::output_schema},
};

/// A part that has no name yet. Dropped before [`Self::settle`], it is not there.
#[must_use]
#[derive(Debug)]
pub struct Unsettled<'f> {
    pub(crate) place: Place<'f>,
    pub(crate) written: WrittenPart,
}

/// Where the rows of a part are.
#[derive(Debug)]
pub(crate) enum Place<'f> {
    /// In a file of their own.
    Part { file: File, temporary: PathBuf, path: PathBuf, format: OutputFormat },
    /// In files of a layout, which others write to as well.
    Rows { files: Vec<(&'f File, PathBuf)> },
}

/// A finished part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPart {
    /// The length of its file; 0 where its rows are in files with others.
    pub bytes: u64,
    /// The digest of its file, in hex; empty where its rows are in files with others.
    pub digest: String,
    /// The digest of the rows that it was made of, as the model's files store them, in hex.
    pub source: String,
    /// Whether its file was read back, and held what was written.
    pub checked: bool,
    /// What is said of each tensor that it holds rows of.
    pub reports: Vec<TensorReport>,
}

impl Unsettled<'_> {
    /// Notes the digest of the rows that the part was made of.
    pub fn set_source(&mut self, digest: String) {
        self.written.source = digest;
    }

    /// Reads the part back and compares every row with what was written, where it is a file of its own: see
    /// [`read_back`]. Gives false where the reading was stopped, or there is no such file.
    ///
    /// # Errors
    /// See [`read_back`].
    pub fn read_back(&mut self, watch: impl FnMut(usize) -> bool) -> Result<bool, IoError> {
        if let Place::Part { temporary, format, .. } = &self.place {
            self.written.checked = read_back(temporary, *format, &self.written.reports, watch)?;
        }
        Ok(self.written.checked)
    }

    /// Waits until the part is on the disk, and gives it its name.
    ///
    /// # Errors
    /// The system cannot write or rename it.
    pub fn settle(self) -> Result<WrittenPart, IoError> {
        match self.place {
            Place::Part { file, temporary, path, .. } => {
                file.sync_all().map_err(IoError::system("write", &temporary))?;
                std::fs::rename(&temporary, &path).map_err(IoError::system("rename into place", &path))?;
            }
            Place::Rows { files } => {
                for (file, path) in files {
                    file.sync_data().map_err(IoError::system("write", &path))?;
                }
            }
        }
        Ok(self.written)
    }
}

/// Reads a part back: every row of every tensor must hold what it held when it was written. `watch` is told of the rows of
/// each batch, and stops the reading with false; then that is what is given.
///
/// # Errors
/// The file cannot be read, or holds other tensors, rows or values.
pub fn read_back(
    path: &Path,
    format: OutputFormat,
    meant: &[TensorReport],
    mut watch: impl FnMut(usize) -> bool,
) -> Result<bool, IoError> {
    let every: Vec<usize> = (0..output_schema().fields().len()).collect();
    let mut contents = Contents::default();
    for batch in PartReader::open(path, format, &every)? {
        let batch = batch?;
        contents.add(&batch).map_err(IoError::arrow(path))?;
        if !watch(batch.num_rows()) {
            return Ok(false);
        }
    }
    let read = contents.finish();
    for (number, meant) in meant.iter().enumerate() {
        if read.get(number).is_none_or(|(name, digest)| (name, digest) != (&meant.name, &meant.content)) {
            return Err(IoError::tensor(path, &meant.name, "was read back as other than was written"));
        }
    }
    match read.get(meant.len()) {
        Some((name, _)) => Err(IoError::tensor(path, name, "was read back, but not written")),
        None => Ok(true),
    }
}
