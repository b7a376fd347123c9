//! The lock on an unfinished output: one run at a time, from before it looks at what is there until all is in its place.

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::unfinished::NAMES;
use crate::storage::{atomic_file::exists, error::IoError};

/// The file that is locked.
pub(crate) const LOCK: &str = "lock";

/// The number of times that a lock is tried again after it was removed: each time another run has come and gone.
const TRIES: usize = 100;

/// A folder beside an output, locked. It goes with the lock when it is empty by then.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: PathBuf,
    /// `None` means that the lock was released.
    file: Option<File>,
}

impl Lock {
    /// Makes the folder, where it is not there, and locks it.
    ///
    /// # Errors
    /// Returns an error if another run holds the lock, if the folder is none that a run makes, or if the system refuses.
    pub(crate) fn acquire(folder: &Path) -> Result<Self, IoError> {
        let path = folder.join(LOCK);
        for _ in 0..TRIES {
            match fs::create_dir(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => check_ours(folder)?,
                Err(error) => return Err(IoError::system("create", folder)(error)),
            }
            let file = match File::options().create(true).write(true).truncate(false).open(&path) {
                Ok(file) => file,
                // The run that held the lock has just removed the folder.
                Err(error) if error.kind() == ErrorKind::NotFound && !exists(folder)? => continue,
                Err(error) => {
                    let _ = fs::remove_dir(folder);
                    return Err(IoError::system("create", &path)(error));
                }
            };
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => break,
                // A file system without locks: the run goes on without.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // The run that held the lock may have removed the file, and another may have made a new one.
            if is_at(&file, &path) {
                return Ok(Self { folder: folder.to_owned(), file: Some(file) });
            }
        }
        Err(IoError::file(folder, "is being written by another run"))
    }

    /// Removes the file, and the folder if it is empty, while the lock is held: who waits for it sees that it is gone.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(crate) fn release(mut self) -> Result<(), IoError> {
        self.unlock()
    }

    fn unlock(&mut self) -> Result<(), IoError> {
        let Some(_held) = self.file.take() else { return Ok(()) };
        let path = self.folder.join(LOCK);
        let unless_gone = |removed: std::io::Result<()>, path: &Path| match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(IoError::system("remove", path)(error)),
            _ => Ok(()),
        };
        unless_gone(fs::remove_file(&path), &path)?;
        match fs::remove_dir(&self.folder) {
            // An unfinished run is in it, or another run has begun.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => unless_gone(removed, &self.folder),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // After an error, which is the one to tell.
        let _ = self.unlock();
    }
}

/// Checks that a folder is one that a run makes: such a one is empty or has a name in it that a run gives.
fn check_ours(folder: &Path) -> Result<(), IoError> {
    let refuse = || Err(IoError::file(folder, "is in the way: a run makes a folder of that name; move it away"));
    if folder.is_symlink() {
        return refuse();
    }
    let names = match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect::<Vec<_>>(),
        // The run that held the lock has just removed it.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return refuse(),
        Err(error) => return Err(IoError::system("list", folder)(error)),
    };
    let ours = |name| NAMES.iter().chain([&LOCK]).any(|ours| name == ours);
    if names.is_empty() || names.iter().any(ours) { Ok(()) } else { refuse() }
}

/// Tells whether an open file is still the one at a path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let there = fs::metadata(path).map(|data| (data.dev(), data.ino()));
    file.metadata().is_ok_and(|data| there.is_ok_and(|there| there == (data.dev(), data.ino())))
}

#[cfg(not(unix))]
fn is_at(_file: &File, path: &Path) -> bool {
    path.exists()
}
