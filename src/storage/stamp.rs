//! The stamp that tells, without reading it, that a file is still the one that was opened.

use std::{fs::Metadata, path::Path};

use serde::{Deserialize, Serialize};

use super::error::IoError;

/// The name, length, time of change and number of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Its name in its folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When its bytes were last changed, in nanoseconds since 1970.
    pub modified: i64,
    /// Its number in the file system; 0 where the system has none.
    pub inode: u64,
}

impl Stamp {
    /// Takes the stamp of the file at a path.
    ///
    /// # Errors
    /// Returns an error if the system does not know the file.
    pub fn read(path: &Path) -> Result<Self, IoError> {
        let data = std::fs::metadata(path).map_err(IoError::system("look at", path))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (modified, inode) = times(&data);
        Ok(Self { name, bytes: data.len(), modified, inode })
    }
}

#[cfg(unix)]
fn times(data: &Metadata) -> (i64, u64) {
    use std::os::unix::fs::MetadataExt;
    (data.mtime().saturating_mul(1_000_000_000).saturating_add(data.mtime_nsec()), data.ino())
}

#[cfg(not(unix))]
fn times(data: &Metadata) -> (i64, u64) {
    let since = data.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    (since.map_or(0, |since| since.as_nanos() as i64), 0)
}
