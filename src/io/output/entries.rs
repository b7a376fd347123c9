//! The entries of an output folder: those that a run writes, which may be removed, and those of somebody else.

use std::{
    collections::HashSet,
    fs::{self, FileType},
    path::{Path, PathBuf},
};

use super::{ACTIVATION_PARAMS, EQUALIZATION, MANIFEST, Manifest, REPORT, WIDTHS};
use crate::io::{IoError, model::is_config};

/// The file that a run holds a lock on while it writes a folder.
pub(super) const LOCK: &str = ".lock";

/// The folder of the parts.
const WEIGHTS: &str = "weights";

/// The entries of a folder that is to be removed.
#[derive(Debug)]
pub(super) struct Entries {
    folder: PathBuf,
    /// Whether a manifest says what the folder is.
    has_manifest: bool,
    /// What a run wrote: each file before its folder, the manifest last, so that the rest is known until it is gone.
    ours: Vec<(PathBuf, FileType)>,
    /// What is not known to be a run's, and so is somebody else's.
    foreign: Vec<(PathBuf, FileType)>,
}

impl Entries {
    /// Lists a folder. Its manifest says which files are a run's; without one there are few.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed or is a symbolic link.
    pub(super) fn of(folder: &Path) -> Result<Self, IoError> {
        if folder.is_symlink() {
            return Err(IoError::file(folder, "is a symbolic link; give the folder that it leads to"));
        }
        let manifest = Manifest::read(folder).ok();
        let names = manifest.as_ref().map(Names::of).unwrap_or_default();
        let mut entries =
            Self { folder: folder.to_owned(), has_manifest: false, ours: Vec::new(), foreign: Vec::new() };
        let mut last = None;
        for (path, kind) in list(folder)? {
            let name = name_of(&path);
            if name == WEIGHTS && kind.is_dir() {
                for (path, kind) in list(&path)? {
                    let known = names.parts.contains(without_tmp(name_of(&path)));
                    entries.add(known, path, kind);
                }
                entries.ours.push((path, kind));
            } else if name == MANIFEST && !kind.is_dir() {
                last = Some((path, kind));
            } else {
                let known = name == LOCK || without_tmp(name) == MANIFEST || names.has(without_tmp(name));
                entries.add(known, path, kind);
            }
        }
        entries.has_manifest = last.is_some();
        entries.ours.extend(last);
        Ok(entries)
    }

    /// Adds an entry, whose name is `known` as that of a file of a run. To remove a link loses nothing.
    fn add(&mut self, known: bool, path: PathBuf, kind: FileType) {
        let ours = known && (kind.is_file() || kind.is_symlink());
        if ours { self.ours.push((path, kind)) } else { self.foreign.push((path, kind)) }
    }

    /// Checks that the folder may be removed: that it is empty or an output folder, and, unless `force` is set, that nothing
    /// in it is somebody else's.
    ///
    /// # Errors
    /// Returns an error if it is something else.
    pub(super) fn check(&self, force: bool) -> Result<(), IoError> {
        let refuse = |problem: String| Err(IoError::file(&self.folder, problem));
        match &self.foreign[..] {
            [] => Ok(()),
            _ if !self.has_manifest => {
                refuse(format!("is not overwritten: it has no {MANIFEST}, so it is no output folder"))
            }
            _ if force => Ok(()),
            [(first, _), ..] => {
                let first = first.strip_prefix(&self.folder).unwrap_or(first).display();
                let count = match self.foreign.len() {
                    1 => "1 entry that no run wrote:".to_owned(),
                    several => format!("{several} entries that no run wrote, such as"),
                };
                refuse(format!("holds {count} '{first}'; move it away, or replace all the same with --force"))
            }
        }
    }

    /// Removes the folder and all that is in it, which was [checked](Self::check).
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(super) fn remove(self) -> Result<(), IoError> {
        for (path, kind) in self.foreign {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(IoError::system("remove", &path))?;
        }
        for (path, kind) in self.ours {
            let removed = if kind.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
            removed.map_err(IoError::system("remove", &path))?;
        }
        fs::remove_dir(&self.folder).map_err(IoError::system("remove", &self.folder))
    }
}

/// The names of a run's files, by its manifest.
#[derive(Default)]
struct Names {
    beside: HashSet<String>,
    parts: HashSet<String>,
    /// Whether configuration is taken for a copy that a run made: a version that did not list it wrote the folder.
    config: bool,
}

impl Names {
    fn of(manifest: &Manifest) -> Self {
        let tables = [REPORT, ACTIVATION_PARAMS, EQUALIZATION, WIDTHS].map(str::to_owned);
        let files = manifest.files.iter().map(|entry| entry.file.clone());
        let beside = match &manifest.names {
            Some(names) => names.iter().cloned().collect(),
            None => tables.into_iter().chain(files).collect(),
        };
        let parts = manifest.parts.iter().filter_map(|part| part.file.rsplit('/').next());
        Self { beside, parts: parts.map(str::to_owned).collect(), config: manifest.names.is_none() }
    }

    fn has(&self, name: &str) -> bool {
        self.beside.contains(name) || (self.config && is_config(name))
    }
}

/// The name of the file that one is renamed to when it is whole.
fn without_tmp(name: &str) -> &str {
    name.strip_suffix(".tmp").unwrap_or(name)
}

/// The name of an entry; empty where it is not UTF-8, and so is none that a run gives.
fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The entries of a folder, sorted by name.
fn list(folder: &Path) -> Result<Vec<(PathBuf, FileType)>, IoError> {
    let failed = || IoError::system("list", folder);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        entries.push((entry.path(), entry.file_type().map_err(failed())?));
    }
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(entries)
}
