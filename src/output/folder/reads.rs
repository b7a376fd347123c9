//! The files that a run reads: none may lie in a folder that is replaced, nor change until the run has finished.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::storage::{error::IoError, stamp::Stamp};

/// The files that a run reads.
#[derive(Debug, Default)]
pub struct Reads {
    /// The files and folders.
    pub paths: Vec<PathBuf>,
    /// The files of the model, as they were when they were opened.
    pub sources: Vec<(PathBuf, Stamp)>,
}

impl Reads {
    /// Checks that nothing of it lies in a folder, whatever links lead to either. What is no folder holds nothing.
    ///
    /// # Errors
    /// Returns an error that names the first path that does.
    pub(crate) fn check_outside(&self, folder: &Path) -> Result<(), IoError> {
        let (true, Ok(there)) = (folder.is_dir(), Place::of(folder)) else { return Ok(()) };
        for path in &self.paths {
            // What cannot be found cannot be read, which whoever reads it says.
            let Ok(real) = fs::canonicalize(path) else { continue };
            if real.ancestors().any(|above| Place::of(above).is_ok_and(|above| above == there)) {
                let problem =
                    format!("is not replaced: {} lies in it and is read; give another output", path.display());
                return Err(IoError::file(folder, problem));
            }
        }
        Ok(())
    }

    /// Checks that the model's files are those that were opened.
    ///
    /// # Errors
    /// Returns an error that names the first one that is not.
    pub fn check_unchanged(&self) -> Result<(), IoError> {
        self.sources.iter().try_for_each(|(path, stamp)| same(path, &Stamp::read(path)?, Some(stamp)))
    }

    /// Checks that the model's files are those that an unfinished run has read.
    ///
    /// # Errors
    /// Returns an error that names the first one that is not.
    pub(crate) fn check_resumed(&self, began: &[Stamp]) -> Result<(), IoError> {
        let of = |name: &str| began.iter().find(|stamp| stamp.name == name);
        self.sources.iter().try_for_each(|(path, stamp)| same(path, stamp, of(&stamp.name)))
    }

    /// Returns the model's files, to be written down.
    pub(crate) fn stamps(&self) -> Vec<Stamp> {
        self.sources.iter().map(|(_, stamp)| stamp.clone()).collect()
    }
}

fn same(path: &Path, now: &Stamp, then: Option<&Stamp>) -> Result<(), IoError> {
    if then == Some(now) { Ok(()) } else { Err(IoError::file(path, CHANGED)) }
}

/// The message about a source that is not the one a run has read.
pub const CHANGED: &str = "has changed since the run began to read it; begin again with `overwrite`";

/// A place in the file system, however it is reached.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    #[cfg(unix)]
    device_and_inode: (u64, u64),
    #[cfg(not(unix))]
    path: PathBuf,
}

impl Place {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt;
        let data = fs::metadata(path)?;
        Ok(Self { device_and_inode: (data.dev(), data.ino()) })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { path: fs::canonicalize(path)? })
    }
}
