//! The entries of a folder that is to be removed: those that a run wrote, and those of somebody else.

use std::{
    collections::HashSet,
    fs::{self, FileType},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    lock::LOCK,
    unfinished::{OUTPUT, PARTS, REPLACED, RUN, is_marker},
};
use crate::storage::{
    error::IoError,
    folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, MANIFEST, REPORT, WEIGHTS, WIDTHS},
};

/// The entries of a folder.
#[derive(Debug)]
pub(crate) struct Entries {
    folder: PathBuf,
    /// True if the folder is known to be one that runs write.
    known: bool,
    /// The entries that a run wrote: each file before its folder, and last the list of them, so that the folder stays known.
    ours: Vec<(PathBuf, FileType)>,
    /// The entries that are not known to be a run's, and so are somebody else's.
    foreign: Vec<(PathBuf, FileType)>,
}

impl Entries {
    /// Lists an output folder, itself included. Its manifest says which files are a run's.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed or is a symbolic link.
    pub(crate) fn of_output(folder: &Path) -> Result<Self, IoError> {
        let kind = fs::symlink_metadata(folder).map_err(IoError::system("open", folder))?.file_type();
        if kind.is_symlink() {
            return Err(IoError::file(folder, "is a symbolic link; give the folder that it leads to"));
        }
        let manifest = folder.join(MANIFEST);
        let mut entries = Self::new(folder, manifest.is_file());
        entries.add_output(folder, kind, &Names::read(&manifest, None))?;
        Ok(entries)
    }

    /// Lists what is in the folder of an unfinished run, but for its lock.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be listed.
    pub(crate) fn of_unfinished(folder: &Path) -> Result<Self, IoError> {
        let mut entries = Self::new(folder, true);
        let mut run = None;
        for (path, kind) in list(folder)? {
            match name_of(&path) {
                LOCK => {}
                RUN => run = Some((path, kind)),
                OUTPUT if kind.is_dir() => {
                    let mut names = Names::read(&folder.join(RUN), Some("manifest"));
                    names.extend(Names::read(&path.join(MANIFEST), None));
                    entries.add_output(&path, kind, &names)?;
                }
                REPLACED if kind.is_dir() => {
                    let names = Names::read(&path.join(MANIFEST), None);
                    entries.add_output(&path, kind, &names)?;
                }
                PARTS if kind.is_dir() => {
                    for (path, kind) in list(&path)? {
                        entries.add(is_marker(without_tmp(name_of(&path))), path, kind);
                    }
                    entries.ours.push((path, kind));
                }
                name => entries.add(without_tmp(name) == RUN, path, kind),
            }
        }
        entries.ours.extend(run);
        Ok(entries)
    }

    fn new(folder: &Path, known: bool) -> Self {
        Self { folder: folder.to_owned(), known, ours: Vec::new(), foreign: Vec::new() }
    }

    /// Adds an output folder and what is in it.
    fn add_output(&mut self, folder: &Path, kind: FileType, names: &Names) -> Result<(), IoError> {
        self.add_inside(folder, "", names)?;
        // The list of them goes last.
        let is_list = |(path, _): &(PathBuf, FileType)| *path == folder.join(MANIFEST);
        if let Some(at) = self.ours.iter().position(is_list) {
            let list = self.ours.remove(at);
            self.ours.push(list);
        }
        self.ours.push((folder.to_owned(), kind));
        Ok(())
    }

    /// Adds what is in an output folder, or in a folder of it. `prefix` is the name of that, and a slash.
    fn add_inside(&mut self, folder: &Path, prefix: &str, names: &Names) -> Result<(), IoError> {
        for (path, kind) in list(folder)? {
            let name = format!("{prefix}{}", name_of(&path));
            if kind.is_dir() && (name == WEIGHTS || names.are_inside(&name)) {
                self.add_inside(&path, &format!("{name}/"), names)?;
                self.ours.push((path, kind));
            } else if kind.is_dir() && name.strip_suffix(".partial").is_some_and(|name| names.are_inside(name)) {
                // A part of a pipeline in the making.
                let lock = path.join(LOCK);
                let lock = fs::symlink_metadata(&lock).ok().map(|data| (lock, data.file_type()));
                let inside = Self::of_unfinished(&path)?;
                self.foreign.extend(inside.foreign);
                self.ours.extend(inside.ours.into_iter().chain(lock).chain([(path, kind)]));
            } else {
                let name = without_tmp(&name);
                self.add(name == MANIFEST || names.has(name), path, kind);
            }
        }
        Ok(())
    }

    /// Adds an entry, whose name is `known` as that of a file of a run. To remove a link loses nothing.
    fn add(&mut self, known: bool, path: PathBuf, kind: FileType) {
        let ours = known && (kind.is_file() || kind.is_symlink());
        if ours { self.ours.push((path, kind)) } else { self.foreign.push((path, kind)) }
    }

    /// Checks that all may be removed: that the folder is empty or one that runs write, and, unless `force` is set, that
    /// nothing in it is somebody else's.
    ///
    /// # Errors
    /// Returns an error if it is something else.
    pub(crate) fn check(self, force: bool) -> Result<Self, IoError> {
        let refuse = |problem: String| Err(IoError::file(&self.folder, problem));
        match &self.foreign[..] {
            [] => Ok(self),
            _ if !self.known => refuse(format!("is not overwritten: it has no {MANIFEST}, so it is no output folder")),
            _ if force => Ok(self),
            [(first, _), ..] => {
                let first = first.strip_prefix(&self.folder).unwrap_or(first).display();
                let count = match self.foreign.len() {
                    1 => "1 entry that no run wrote:".to_owned(),
                    several => format!("{several} entries that no run wrote, such as"),
                };
                refuse(format!(
                    "holds {count} '{first}'; move it away, or replace all the same with `overwrite` and `force`"
                ))
            }
        }
    }

    /// Removes all of them, which were [checked](Self::check).
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(crate) fn remove(mut self) -> Result<(), IoError> {
        for (path, kind) in std::mem::take(&mut self.foreign) {
            let removed = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(IoError::system("remove", &path))?;
        }
        self.remove_ours()
    }

    /// Removes what a run wrote. Whatever else there is stays, and so does the folder that holds it.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub(crate) fn remove_ours(self) -> Result<(), IoError> {
        for (path, kind) in self.ours {
            match if kind.is_dir() { fs::remove_dir(&path) } else { fs::remove_file(&path) } {
                Err(error) if error.kind() != ErrorKind::DirectoryNotEmpty => {
                    return Err(IoError::system("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The names of the files in an output folder, by its manifest, with `/` between folders.
#[derive(Default)]
struct Names {
    files: HashSet<String>,
    /// True if configuration is taken for a copy that a run made: a version that did not list it wrote the folder.
    config: bool,
}

impl Names {
    /// Reads them from a manifest, or from a file that has one under a key. A manifest of another version has them in the same
    /// place; one that cannot be read has none.
    fn read(path: &Path, key: Option<&str>) -> Self {
        let Some(json) = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
            return Self::default();
        };
        let manifest = key.map_or(&json, |key| &json[key]);
        let every = |list: &str| manifest[list].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let files = |list| every(list).filter_map(|entry| text(&entry["file"]));
        let config = manifest.get("format_version").is_some() && manifest.get("names").is_none();
        let tables =
            [REPORT, ACTIVATION_PARAMS, EQUALIZATION, WIDTHS].into_iter().filter(|_| config).map(str::to_owned);
        let files = every("names").filter_map(text).chain(files("parts")).chain(files("files")).chain(tables);
        Self { files: files.collect(), config }
    }

    fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains(name) || (self.config && is_config(name))
    }

    /// Tells whether there are some in a folder.
    fn are_inside(&self, folder: &str) -> bool {
        let inside = |file: &String| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        self.files.iter().any(inside)
    }
}

/// Tells whether a file was copied by versions that did not list what they wrote.
fn is_config(name: &str) -> bool {
    let starts =
        ["tokenizer", "vocab", "LICENSE", "LICENCE", "NOTICE", "merges.txt", "modules.json", "model_index.json"];
    let ends = ["config.json", ".jinja", "_tokens.json", "_template.json", "_tokens_map.json"];
    starts.iter().any(|start| name.starts_with(start)) || ends.iter().any(|end| name.ends_with(end))
}

/// Returns the name of the file that one is renamed to when it is whole.
fn without_tmp(name: &str) -> &str {
    name.strip_suffix(".tmp").unwrap_or(name)
}

/// Returns the name of an entry; empty where it is not UTF-8, and so is none that a run gives.
fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns the entries of a folder, sorted by name.
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
