//! A part whose rows are all written: what is left is to wait for the disk and to give it its name.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    storage::{
        error::IoError,
        folder::{manifest::Manifest, part_reader::PartReader, row_digest::Contents, tensor_report::TensorReport},
    },
    types::{PartFormat, output::output_schema},
};

/// A part whose rows are written, and which is not finished: it has no name, or is not on the disk yet.
#[derive(Debug)]
pub enum PendingPart {
    /// In a file of its own.
    File {
        /// The file until then.
        temporary: PathBuf,
        /// The file from then on.
        path: PathBuf,
        /// The format of the part.
        format: PartFormat,
    },
    /// In the places of its rows, in files that others write to as well.
    Rows {
        /// The files.
        files: Vec<PathBuf>,
    },
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
    /// True if its file was read back, and held what was written.
    pub checked: bool,
    /// The report on each tensor that it holds rows of.
    pub reports: Vec<TensorReport>,
}

impl PendingPart {
    /// Returns the part of a manifest in a folder, where it is a file of its own.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part.
    pub(crate) fn of_file(folder: &Path, manifest: &Manifest, part: usize) -> Result<Self, IoError> {
        let file = &manifest.part(folder, part)?.file;
        let temporary = folder.join(format!("{file}.tmp"));
        let format = manifest.part_format().ok_or_else(|| IoError::file(folder, "has no parts"))?;
        Ok(Self::File { temporary, path: folder.join(file), format })
    }

    /// Reads the part back and compares every row with what was written, where it is a file of its own: see
    /// [`read_back`]. Returns false where the reading was stopped, or there is no such file.
    ///
    /// # Errors
    /// See [`read_back`].
    pub fn read_back(&self, written: &WrittenPart, watch: impl FnMut(usize) -> bool) -> Result<bool, IoError> {
        match self {
            Self::File { temporary, format, .. } => read_back(temporary, *format, &written.reports, watch),
            Self::Rows { .. } => Ok(false),
        }
    }

    /// Waits until the part is on the disk, and gives it its name.
    ///
    /// # Errors
    /// Returns an error if the system cannot write or rename it.
    pub fn commit(&self) -> Result<(), IoError> {
        let sync = |path: &Path| {
            let file = File::options().write(true).open(path).map_err(IoError::system("open", path))?;
            file.sync_all().map_err(IoError::system("write", path))
        };
        match self {
            Self::File { temporary, path, .. } => {
                sync(temporary)?;
                std::fs::rename(temporary, path).map_err(IoError::system("rename into place", path))
            }
            Self::Rows { files } => files.iter().try_for_each(|path| sync(path)),
        }
    }
}

/// Reads a part back: every row of every tensor must hold what it held when it was written. `watch` is told of the rows of
/// each batch, and stops the reading with false; then that is what is given.
///
/// # Errors
/// Returns an error if the file cannot be read, or holds other tensors, rows or values.
pub fn read_back(
    path: &Path,
    format: PartFormat,
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
            return Err(IoError::tensor(
                path,
                &meant.name,
                "verification failed: the file differs from what was written",
            ));
        }
    }
    match read.get(meant.len()) {
        Some((name, _)) => Err(IoError::tensor(path, name, "was read back, but not written")),
        None => Ok(true),
    }
}
