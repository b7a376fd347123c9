//! Small files that are there whole or not at all.

use std::{fs::File, io::Write, path::Path};

use super::IoError;

/// Writes a small file so that it is there whole or not at all.
///
/// # Errors
/// The system refuses.
pub fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = File::create(temporary).map_err(IoError::system("create", temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(IoError::system("write", temporary))?;
    std::fs::rename(temporary, path).map_err(IoError::system("rename into place", path))
}
