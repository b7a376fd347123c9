//! What a run reads must not lie in a folder that it replaces.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::storage::error::IoError;

/// Checks that nothing of what a run reads lies in a folder, whatever links lead to either. What is no folder holds nothing.
///
/// # Errors
/// Returns an error that names the first of `reads` that does.
pub(crate) fn check_reads(folder: &Path, reads: &[PathBuf]) -> Result<(), IoError> {
    let (true, Ok(there)) = (folder.is_dir(), Place::of(folder)) else { return Ok(()) };
    for path in reads {
        // What cannot be found cannot be read, which whoever reads it says.
        let Ok(real) = fs::canonicalize(path) else { continue };
        if real.ancestors().any(|above| Place::of(above).is_ok_and(|above| above == there)) {
            let problem = format!("is not replaced: {} lies in it and is read; give another output", path.display());
            return Err(IoError::file(folder, problem));
        }
    }
    Ok(())
}

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
