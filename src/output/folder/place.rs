//! The place of an output, and how an output comes there: the old whole or the new whole, whenever a run is killed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    entries::Entries,
    existing::Existing,
    lock::Lock,
    unfinished::{OUTPUT, Placing, REPLACED, Unfinished},
};
use crate::{
    output::pending_part::WrittenPart,
    storage::{
        atomic_file::{exists, folder_of, sync_folder},
        error::IoError,
    },
};

/// The place of an output, and the folder `TARGET.partial` beside it, in which the output is made. One run at a time holds it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) target: PathBuf,
    pub(crate) partial: PathBuf,
    lock: Lock,
}

/// The remains of a run in a place.
pub(crate) enum Left {
    /// Nothing.
    Nothing,
    /// An unfinished run.
    Run(Box<Unfinished>),
    /// A run of which nothing is known, and why.
    Unknown(IoError),
}

impl Place {
    /// Locks a place, and finishes what a run that was killed had still to do there. Gives what then is left.
    ///
    /// # Errors
    /// Returns an error if another run holds the place, or if the system refuses.
    pub(crate) fn take(target: &Path) -> Result<(Self, Left), IoError> {
        let partial = partial_of(target)?;
        let place = Self { target: target.to_owned(), lock: Lock::acquire(&partial)?, partial };
        let left = place.recover()?;
        Ok((place, left))
    }

    /// Returns the output in the making.
    pub(crate) fn output(&self) -> PathBuf {
        self.partial.join(OUTPUT)
    }

    fn recover(&self) -> Result<Left, IoError> {
        let replaced = self.partial.join(REPLACED);
        if !exists(&self.target)? && exists(&replaced)? {
            rename(&replaced, &self.target)?;
        }
        let unfinished = match Unfinished::read(&self.partial) {
            Ok(Some(unfinished)) => Box::new(unfinished),
            Ok(None) => return Ok(Left::Nothing),
            Err(error) => return Ok(Left::Unknown(error)),
        };
        let Some(placing) = unfinished.placing else { return Ok(Left::Run(unfinished)) };
        let output = self.output();
        if !exists(&output)? || (placing.inode.is_some() && placing.inode == inode(&self.target)) {
            self.clean_up(&unfinished)?;
            return Ok(Left::Nothing);
        }
        if placing.inode != inode(&output) {
            // The folders were copied: which is the new one is not known. So none of its parts counts as finished.
            WrittenPart::forget(&self.partial)?;
        }
        Ok(Left::Run(unfinished))
    }

    /// Removes what is left of an unfinished run.
    ///
    /// # Errors
    /// Returns an error if something in it was written by no run, unless `force` is set, or if the system refuses.
    pub(crate) fn clear(&self, force: bool) -> Result<(), IoError> {
        Entries::of_unfinished(&self.partial)?.check(force)?.remove()
    }

    /// Puts the complete output into its place, and removes what it replaces and what is left of the run.
    ///
    /// # Errors
    /// Returns an error if there is something that must not be replaced, or if the system refuses. What was there is there,
    /// or the new output is.
    pub(crate) fn put(self, mut unfinished: Unfinished) -> Result<(), IoError> {
        self.announce(&mut unfinished)?;
        if exists(&self.target)? {
            check_replaced(&self.target, unfinished.existing)?;
            if !exchange(&self.output(), &self.target)? {
                self.replace()?;
            }
        } else {
            rename(&self.output(), &self.target)?;
        }
        sync_folder(folder_of(&self.target))?;
        self.clean_up(&unfinished)?;
        self.lock.release()
    }

    /// Writes down that the output is complete and about to have its place.
    pub(crate) fn announce(&self, unfinished: &mut Unfinished) -> Result<(), IoError> {
        sync_folder(&self.output())?;
        unfinished.placing = Some(Placing { inode: inode(&self.output()) });
        unfinished.write(&self.partial)?;
        sync_folder(&self.partial)
    }

    /// Replaces what has the place in two steps.
    fn replace(&self) -> Result<(), IoError> {
        let replaced = self.partial.join(REPLACED);
        rename(&self.target, &replaced)?;
        rename(&self.output(), &self.target).inspect_err(|_| {
            // Back to where it was; if that fails too, the first error is the one to tell.
            let _ = fs::rename(&replaced, &self.target);
        })
    }

    /// Removes what an output has replaced, which has its place by now, and then what is left of its run.
    fn clean_up(&self, unfinished: &Unfinished) -> Result<(), IoError> {
        for old in [self.output(), self.partial.join(REPLACED)] {
            if exists(&old)? {
                let entries = Entries::of_output(&old)?;
                if unfinished.existing == Existing::Force { entries.remove() } else { entries.remove_ours() }?;
            }
        }
        Entries::of_unfinished(&self.partial)?.remove_ours()
    }

    /// Lets go of the place.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(crate) fn release(self) -> Result<(), IoError> {
        self.lock.release()
    }
}

/// Checks that an output may be replaced.
///
/// # Errors
/// Returns an error if there is something in it that no run wrote, or if it is not to be replaced at all.
pub(crate) fn check_replaced(target: &Path, existing: Existing) -> Result<(), IoError> {
    match existing {
        Existing::Overwrite | Existing::Force => {
            Entries::of_output(target)?.check(existing == Existing::Force).map(drop)
        }
        Existing::Refuse | Existing::Resume => {
            Err(IoError::file(target, "exists already; give another output, or replace it with `overwrite`"))
        }
    }
}

/// Returns the folder in which an output is made.
///
/// # Errors
/// Returns an error if the path of the output has no name.
pub(crate) fn partial_of(target: &Path) -> Result<PathBuf, IoError> {
    let name = target.file_name().ok_or_else(|| IoError::file(target, "is not a path that a folder can be made at"))?;
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(target.with_file_name(name))
}

fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    fs::rename(from, to).map_err(IoError::system("rename into place", to))
}

/// Exchanges two folders in one step. Gives false where the system or the file system cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) fn exchange(a: &Path, b: &Path) -> Result<bool, IoError> {
    use rustix::{
        fs::{CWD, RenameFlags, renameat_with},
        io::Errno,
    };
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(true),
        Err(Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(IoError::system("rename into place", b)(error.into())),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(crate) fn exchange(_a: &Path, _b: &Path) -> Result<bool, IoError> {
    Ok(false)
}

/// Returns the number of a folder, which it keeps when it is renamed.
#[cfg(unix)]
fn inode(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::symlink_metadata(folder).ok().map(|data| data.ino())
}

#[cfg(not(unix))]
fn inode(_folder: &Path) -> Option<u64> {
    None
}
