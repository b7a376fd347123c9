//! The record of a run that is not finished, in the folder beside its output.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

use super::existing::Existing;
use crate::{
    output::pending_part::WrittenPart,
    storage::{atomic_file::write_renamed, digest::Digest, error::IoError, folder::manifest::Manifest, stamp::Stamp},
};

/// The output in the making; once it has its place, what it replaced.
pub(crate) const OUTPUT: &str = "output";
/// The folder that the output replaces, where the file system cannot exchange two folders.
pub(crate) const REPLACED: &str = "replaced";
/// The folder of records of finished parts.
pub(crate) const PARTS: &str = "parts";
/// The file that holds an [`Unfinished`].
pub(crate) const RUN: &str = "run.json";

/// The names in the folder of an unfinished run.
pub(crate) const NAMES: [&str; 5] = [OUTPUT, REPLACED, PARTS, RUN, "run.json.tmp"];

/// A run that is not finished.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unfinished {
    /// The choice for an output that is there already.
    pub(crate) existing: Existing,
    /// The output is complete and about to have its place, or has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placing: Option<Placing>,
    /// The files of the model, as they were when it began.
    pub(crate) sources: Vec<Stamp>,
    /// Its manifest, as it began.
    pub(crate) manifest: Manifest,
}

/// An output on its way to its place.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Placing {
    /// The inode that tells the output from the folder that it is exchanged with. `None` means that the system does not say.
    pub(crate) inode: Option<u64>,
}

impl Unfinished {
    /// Reads what is known of the run in a folder. `None` means that it has not begun.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or is that of another version.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, IoError> {
        let path = folder.join(RUN);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(IoError::system("read", &path))?,
        };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| {
            IoError::file(&path, format!("is of a run that cannot be resumed, begin again with `overwrite`: {error}"))
        })
    }

    /// Writes it to a folder.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), IoError> {
        let path = folder.join(RUN);
        let text = serde_json::to_vec(self);
        let text = text.map_err(|error| IoError::file(&path, format!("cannot be written: {error}")))?;
        write_renamed(&path, &text)
    }
}

/// The record of a finished part.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<T> {
    /// The digest of the part's JSON.
    digest: String,
    part: T,
}

impl WrittenPart {
    /// Reads the record of a part. `None` means that there is none, or a damaged one: the part is not finished.
    pub(crate) fn read(folder: &Path, number: usize) -> Option<Self> {
        let text = fs::read(folder.join(PARTS).join(marker(number))).ok()?;
        let Record { digest, part } = serde_json::from_slice::<Record<Self>>(&text).ok()?;
        let json = serde_json::to_vec(&part).ok()?;
        (Digest::default().update(&json).hex() == digest).then_some(part)
    }

    /// Writes its record: from here on the part is finished.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub(crate) fn write(&self, folder: &Path, number: usize) -> Result<(), IoError> {
        let path = folder.join(PARTS).join(marker(number));
        let text = serde_json::to_vec(self)
            .and_then(|json| serde_json::to_vec(&Record { digest: Digest::default().update(&json).hex(), part: self }));
        let text = text.map_err(|error| IoError::file(&path, format!("cannot be written: {error}")))?;
        write_renamed(&path, &text)
    }

    /// Removes what is said of all parts: none is finished.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(crate) fn forget(folder: &Path) -> Result<(), IoError> {
        let parts = folder.join(PARTS);
        for entry in fs::read_dir(&parts).map_err(IoError::system("list", &parts))? {
            let entry = entry.map_err(IoError::system("list", &parts))?;
            if entry.file_name().to_str().is_some_and(is_marker) {
                fs::remove_file(entry.path()).map_err(IoError::system("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

fn marker(number: usize) -> String {
    format!("part-{number:05}.json")
}

/// Tells whether a name is one that [`WrittenPart::write`] gives.
pub(crate) fn is_marker(name: &str) -> bool {
    let number = name.strip_prefix("part-").and_then(|name| name.strip_suffix(".json"));
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
