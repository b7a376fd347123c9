//! The place that the rows of a run's parts go to, for whoever writes them: this process, or another with the same folder.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use arrow_array::RecordBatch;

use super::{
    part_writer::PartWriter,
    pending_part::{PendingPart, WrittenPart},
    row_writer::{RowFiles, RowWriter},
};
use crate::{
    storage::{error::IoError, folder::manifest::Manifest},
    types::ErrorSums,
};

/// The place that the rows of a run's parts go to.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The folder in the making.
    pub folder: PathBuf,
    /// The manifest that the folder will hold.
    pub manifest: Arc<Manifest>,
    /// The files in which rows have their places; `None` means that each part is a file of its own.
    pub files: Option<Arc<RowFiles>>,
}

/// A part being written.
pub enum PartInProgress {
    /// To a file of its own.
    File(Box<PartWriter>),
    /// To the places of its rows.
    Rows(RowWriter),
}

impl Destination {
    /// Begins a part. One that was begun before, by whomever, is written anew.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part, or a file cannot be created.
    pub fn begin(&self, part: usize) -> Result<PartInProgress, IoError> {
        if let Some(files) = &self.files {
            return Ok(PartInProgress::Rows(files.part(&self.manifest, part)?));
        }
        let writer = PartWriter::create(&self.folder, &self.manifest, part)?;
        Ok(PartInProgress::File(Box::new(writer)))
    }

    /// Returns a part that was written, until it is committed.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part.
    pub fn pending(&self, part: usize) -> Result<PendingPart, IoError> {
        match &self.files {
            Some(files) => files.pending(&self.manifest, part),
            None => PendingPart::of_file(&self.folder, &self.manifest, part),
        }
    }
}

impl PartInProgress {
    /// Adds rows: see [`PartWriter::write`] and [`RowWriter::write`].
    ///
    /// # Errors
    /// Returns an error if the rows are not those that come next, or a file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        match self {
            Self::File(part) => part.write(batch),
            Self::Rows(rows) => rows.write(batch),
        }
    }

    /// Completes the part, but for its name and the wait for the disk. `errors` are the error sums of its rows, by tensor.
    ///
    /// # Errors
    /// Returns an error if rows are missing, or a file cannot be written.
    pub fn finish(self, errors: &HashMap<String, ErrorSums>) -> Result<WrittenPart, IoError> {
        match self {
            Self::File(part) => part.finish(errors),
            Self::Rows(rows) => rows.finish(errors),
        }
    }
}
