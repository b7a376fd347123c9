//! Files that are there whole or not at all.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempPath};

use super::error::IoError;

/// The names of temporary files.
const PREFIX: &str = ".arrow-quant-";
const SUFFIX: &str = ".tmp";

/// A file in the making. Its bytes belong to no other writer of the same path; the last [`Self::commit`] wins.
///
/// On Linux the file has no name until it is complete, where the file system allows it. Elsewhere it has a name of its own
/// beside its path, which goes when the value is dropped. The file is locked meanwhile: a name that a killed process left is
/// known by its missing lock, and removed by the next writer in that folder.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    file: File,
    /// `None` means that the file has no name yet.
    temporary: Option<TempPath>,
}

impl AtomicFile {
    /// Creates the file that will be `path`, in the same folder.
    ///
    /// # Errors
    /// Returns an error if the system cannot create a file there.
    pub fn create(path: &Path) -> Result<Self, IoError> {
        remove_abandoned(folder_of(path));
        let parts = match create_unnamed(folder_of(path)) {
            Some(file) => Ok((file, None)),
            None => named(path, create_locked).map(|(file, temporary)| (file, Some(temporary))),
        };
        let (file, temporary) = parts.map_err(IoError::system("create", path))?;
        Ok(Self { path: path.to_owned(), file, temporary })
    }

    /// Waits until the bytes are on the disk and renames the file into place, over what is there.
    ///
    /// # Errors
    /// Returns an error if the system cannot write or rename the file; what was there before is still there.
    pub fn commit(self) -> Result<(), IoError> {
        let Self { path, file, temporary } = self;
        file.sync_all().map_err(IoError::system("write", &path))?;
        let temporary = match temporary {
            Some(temporary) => temporary,
            None => named(&path, |temporary| link(&file, temporary)).map_err(IoError::system("create", &path))?.1,
        };
        temporary.persist(&path).map_err(|error| IoError::system("rename into place", &path)(error.error))?;
        sync_folder(folder_of(&path))
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Writes a small file so that it is there whole or not at all. Its temporary file has a fixed name, which the next run
/// writes over: two writers of one path must keep each other out.
///
/// # Errors
/// Returns an error if the system refuses.
pub fn write_renamed(path: &Path, bytes: &[u8]) -> Result<(), IoError> {
    renamed(path, "write", |file| file.write_all(bytes))
}

/// Copies what is in a file, so that the copy is there whole or not at all. The copy is a new file like any other: owner, mode and
/// times of the original make no difference, nor do links to it.
///
/// # Errors
/// Returns an error if the system refuses.
pub fn copy_renamed(from: &Path, to: &Path) -> Result<(), IoError> {
    let mut source = File::open(from).map_err(IoError::system("open", from))?;
    renamed(to, "copy to", |file| io::copy(&mut source, file).map(drop))
}

fn renamed(path: &Path, action: &'static str, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<(), IoError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let mut file = File::create(temporary).map_err(IoError::system("create", temporary))?;
    if let Err(error) = write(&mut file).and_then(|()| file.sync_all()) {
        // Space may have run out: nothing is left that is of no use. The first error is the one to tell.
        let _ = fs::remove_file(temporary);
        return Err(IoError::system(action, path)(error));
    }
    fs::rename(temporary, path).map_err(IoError::system("rename into place", path))
}

/// Returns the folder that holds a path.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// Returns an error if the system refuses.
pub fn sync_folder(folder: &Path) -> Result<(), IoError> {
    if cfg!(unix) {
        let file = File::open(folder).map_err(IoError::system("open", folder))?;
        file.sync_all().map_err(IoError::system("write", folder))?;
    }
    Ok(())
}

/// Calls `make` with names beside `path` until one is free.
fn named<R>(path: &Path, make: impl FnMut(&Path) -> io::Result<R>) -> io::Result<(R, TempPath)> {
    // Not made of the name of the file, which may be as long as a name can be.
    let made = Builder::new().prefix(PREFIX).suffix(SUFFIX).make_in(folder_of(path), make);
    made.map(NamedTempFile::into_parts)
}

/// Creates a file and locks it.
fn create_locked(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    lock(&file);
    // Another writer may have taken it for abandoned before it was locked: then another name is tried.
    if path.exists() { Ok(file) } else { Err(io::ErrorKind::AlreadyExists.into()) }
}

/// Locks a file until it is closed.
fn lock(file: &File) {
    // Where there are no locks, nothing is taken for abandoned.
    let _ = file.try_lock();
}

/// Removes the temporary files in a folder that nobody has locked: their writers were killed.
fn remove_abandoned(folder: &Path) {
    // What cannot be listed, opened or removed is in nobody's way.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if ours && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Creates a file without a name in a folder. `None` means that the system cannot, or could not name it later.
#[cfg(target_os = "linux")]
fn create_unnamed(folder: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::TMPFILE.bits() as i32;
    let file = File::options().read(true).write(true).custom_flags(flags).open(folder).ok()?;
    lock(&file);
    descriptor(&file).exists().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn create_unnamed(_folder: &Path) -> Option<File> {
    None
}

/// Gives a file without a name one.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_file: &File, _path: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns the path by which Linux shows an open file.
#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Tells whether something is at a path. A dangling link is something.
///
/// # Errors
/// Returns an error if the system does not say.
pub fn exists(path: &Path) -> Result<bool, IoError> {
    Ok(path.is_symlink() || path.try_exists().map_err(IoError::system("look at", path))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Returns a file that has a name from the start, as where the file system knows no other.
    fn with_name(path: &Path) -> AtomicFile {
        let (file, temporary) = named(path, create_locked).unwrap();
        AtomicFile { path: path.to_owned(), file, temporary: Some(temporary) }
    }

    #[test]
    fn two_writers_of_one_path_share_nothing_and_the_last_commit_wins() {
        for create in [|path: &Path| AtomicFile::create(path).unwrap(), with_name] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("a");
            let (mut first, mut second) = (create(&path), create(&path));
            first.write_all(b"first").unwrap();
            second.write_all(b"2nd").unwrap();
            first.write_all(b", whole").unwrap();
            assert!(!path.exists());
            second.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"2nd");
            first.commit().unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"first, whole");
            assert_eq!(names(place.path()), ["a"]);
        }
    }

    #[test]
    fn a_dropped_file_leaves_what_was_there() {
        for create in [|path: &Path| AtomicFile::create(path).unwrap(), with_name] {
            let place = tempfile::tempdir().unwrap();
            let path = place.path().join("a");
            fs::write(&path, "old").unwrap();
            let mut file = create(&path);
            file.write_all(b"new").unwrap();
            drop(file);
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(names(place.path()), ["a"]);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_has_the_longest_name_and_the_mode_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        for create in [|path: &Path| AtomicFile::create(path).unwrap(), with_name] {
            let place = tempfile::tempdir().unwrap();
            let (path, other) = (place.path().join("n".repeat(255)), place.path().join("other"));
            create(&path).commit().unwrap();
            fs::write(&other, "").unwrap();
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(&other));
        }
    }

    #[test]
    fn what_a_killed_writer_left_is_removed_and_what_a_living_one_holds_is_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        let living = with_name(&path);
        let (left, other) = (place.path().join(".arrow-quant-left.tmp"), place.path().join(".arrow-quant-other"));
        fs::write(&left, "left").unwrap();
        fs::write(&other, "other").unwrap();
        AtomicFile::create(&path).unwrap().commit().unwrap();
        assert!(!left.exists() && other.exists());
        living.commit().unwrap();
        let mut found = names(place.path());
        found.sort();
        assert_eq!(found, [".arrow-quant-other", "a"]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("none").join("a");
        let message = AtomicFile::create(&path).unwrap_err().to_string();
        assert_eq!(message, format!("{}: cannot create: No such file or directory (os error 2)", path.display()));
    }

    #[test]
    #[cfg(unix)]
    fn a_copy_is_a_new_file_whatever_the_original_is() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        fs::write(at("store"), "{}").unwrap();
        let own = mode(&at("store"));
        fs::set_permissions(at("store"), fs::Permissions::from_mode(0o444)).unwrap();
        std::os::unix::fs::symlink(at("store"), at("config.json")).unwrap();
        // What a run of a version that copied modes has left.
        fs::copy(at("store"), at("copy")).unwrap();
        for _ in 0..2 {
            copy_renamed(&at("config.json"), &at("copy")).unwrap();
            assert_eq!(fs::read(at("copy")).unwrap(), b"{}");
            assert!(at("copy").symlink_metadata().unwrap().is_file());
            assert_eq!(mode(&at("copy")), own);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let failed = renamed(&path, "write", |_| Err(io::ErrorKind::StorageFull.into())).unwrap_err().to_string();
        assert_eq!(failed, format!("{}: cannot write: no storage space", path.display()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
