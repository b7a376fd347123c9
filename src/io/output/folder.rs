//! An output folder in the making: written beside its place and renamed when complete.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use arrow_array::RecordBatch;

use super::{
    FileEntry, MANIFEST, Manifest, TensorReport, WrittenPart,
    entries::{Entries, LOCK},
    part_reader::read_report,
    reads::check_reads,
};
use crate::io::{IoError, Model, QuantizedModel, columns::write_table, digest::digest_of};

/// What names of files end in that an output holds: a folder of such a name would be taken for one.
const FILES: [&str; 4] = ["gguf", "safetensors", "parquet", "arrow"];

/// What to do where the output, or an unfinished run of it, is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is an error.
    Refuse,
    /// Go on with the unfinished run. It is an error if that had other options or sources; without one, begin.
    Resume,
    /// Begin anew; what is there is replaced when the new output is complete. Only output folders are replaced, and only
    /// those that hold nothing but what a run wrote.
    Overwrite,
    /// As [`Self::Overwrite`], and what else the output folder holds goes too.
    Force,
}

impl Existing {
    const fn replaces(self) -> bool {
        matches!(self, Self::Overwrite | Self::Force)
    }
}

/// An output folder in the making.
#[derive(Debug)]
pub struct OutputFolder {
    target: PathBuf,
    partial: PathBuf,
    existing: Existing,
    manifest: Manifest,
    finished: Vec<Option<WrittenPart>>,
    /// Held while the folder is written, so that two runs do not write the same one.
    _lock: File,
}

impl OutputFolder {
    /// Checks that an output can go to `target`, as far as what is there tells: before anything is measured or written.
    /// `reads` are the files and folders that the run reads.
    ///
    /// # Errors
    /// The target exists (unless it is to be overwritten, and holds nothing else than a run wrote), is called like a file, or
    /// an unfinished run is in the way; or the run reads what would be replaced.
    pub fn check_target(target: &Path, existing: Existing, reads: &[PathBuf]) -> Result<(), IoError> {
        let refuse = |path: &Path, problem: &str| Err(IoError::file(path, problem));
        let partial = beside(target, ".partial")?;
        for folder in [target, &partial, &beside(target, ".replaced")?] {
            check_reads(folder, reads)?;
        }
        let began = exists(&partial)?;
        if exists(target)? && !target.is_dir() {
            return refuse(target, "is a file; the output is a folder that holds the weights and what goes with them");
        }
        if exists(target)? && existing.replaces() {
            Entries::of(target)?.check(existing == Existing::Force)?;
        } else if exists(target)? {
            let complete = existing == Existing::Resume && !began && Manifest::read(target).is_ok();
            return refuse(
                target,
                if complete {
                    "is complete already; there is nothing to resume"
                } else {
                    "exists already; give another output, or replace it with --overwrite"
                },
            );
        } else if FILES.iter().any(|file| target.extension().is_some_and(|extension| extension == *file)) {
            return refuse(
                target,
                "is called like a file; the output is a folder, so give its name without the ending",
            );
        }
        if began && existing == Existing::Refuse {
            let problem = "was left by a run that did not finish; go on with --resume, or begin again with --overwrite";
            return refuse(&partial, problem);
        }
        if began && existing.replaces() {
            Entries::of(&partial)?.check(existing == Existing::Force)?;
        }
        Ok(())
    }

    /// Begins, or goes on with, the output that a manifest describes: makes the folder `TARGET.partial` and writes the
    /// manifest into it. `reads` are the files and folders that the run reads.
    ///
    /// # Errors
    /// As [`Self::check_target`]; an unfinished run differs (the message says in what), another run is writing it, or the folder above is missing or not writable.
    pub fn create(target: &Path, existing: Existing, manifest: Manifest, reads: &[PathBuf]) -> Result<Self, IoError> {
        Self::check_target(target, existing, reads)?;
        let partial = beside(target, ".partial")?;
        let began = exists(&partial)?;
        let resumes = began && existing == Existing::Resume && exists(&partial.join(MANIFEST))?;
        if began && !resumes {
            drop(lock(&partial)?);
            remove(&partial, existing == Existing::Force)?;
        }
        if resumes {
            let there = Manifest::read(&partial)?;
            if let Some(difference) = there.difference(&manifest) {
                return Err(IoError::file(&partial, format!("cannot be resumed: {difference}")));
            }
        } else {
            fs::create_dir(&partial).map_err(IoError::system("create", &partial))?;
            manifest.write(&partial)?;
        }
        let lock = lock(&partial)?;
        let weights = partial.join("weights");
        fs::create_dir_all(&weights).map_err(IoError::system("create", &weights))?;
        let finished = vec![None; manifest.parts.len()];
        let mut folder = Self { target: target.to_owned(), partial, existing, manifest, finished, _lock: lock };
        if resumes {
            folder.find_finished()?;
        }
        Ok(folder)
    }

    /// Takes up the parts that are whole; one that is not is written again.
    fn find_finished(&mut self) -> Result<(), IoError> {
        for (entry, finished) in self.manifest.parts.iter().zip(&mut self.finished) {
            let path = self.partial.join(&entry.file);
            if !exists(&path)? {
                continue;
            }
            let format = self.manifest.output_format;
            let reports = read_report(&path, format, entry).ok();
            // Without digests the part could not be read back.
            let whole = |reports: &Vec<TensorReport>| {
                !format.has_parts() || reports.iter().all(|report| !report.content.is_empty())
            };
            if let Some(reports) = reports.filter(whole) {
                let (bytes, digest) = digest_of(&path)?;
                *finished = Some(WrittenPart { bytes, digest, reports });
            }
        }
        Ok(())
    }

    /// The folder while it is written: where parts and the report go.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Where it will be.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether there is room for what is still to be written.
    ///
    /// # Errors
    /// The file system says that it has less than `bytes` free.
    pub fn check_space(&self, bytes: u64) -> Result<(), IoError> {
        match free_bytes(&self.partial).filter(|free| *free < bytes) {
            None => Ok(()),
            Some(free) => {
                let problem = format!("needs about {bytes} bytes of space, and {free} are free");
                Err(IoError::file(&self.partial, problem))
            }
        }
    }

    /// The numbers of the parts that are still to be written.
    pub fn unfinished(&self) -> Vec<usize> {
        (0..self.finished.len()).filter(|part| self.finished[*part].is_none()).collect()
    }

    /// Takes note of a written part.
    ///
    /// # Errors
    /// There is no such part.
    pub fn add(&mut self, number: usize, part: WrittenPart) -> Result<(), IoError> {
        let parts = self.finished.len();
        let slot = self.finished.get_mut(number);
        *slot.ok_or_else(|| IoError::file(&self.partial, format!("has {parts} parts, no part {number}")))? = Some(part);
        Ok(())
    }

    /// A part, if it is finished.
    pub fn finished(&self, number: usize) -> Option<&WrittenPart> {
        self.finished.get(number)?.as_ref()
    }

    /// What all finished parts say of their tensors, in the order of the parts.
    pub fn reports(&self) -> impl Iterator<Item = &TensorReport> {
        self.finished.iter().flatten().flat_map(|part| &part.reports)
    }

    /// Returns the bytes of the files written so far: the weights, and the tables that belong to them.
    pub fn file_bytes(&self) -> u64 {
        let parts = self.finished.iter().flatten().map(|part| part.bytes);
        // The parts of other formats are markers, which go.
        let parts: u64 = if self.manifest.output_format.has_parts() { parts.sum() } else { 0 };
        parts + self.manifest.files.iter().map(|file| file.bytes).sum::<u64>()
    }

    /// Writes a table that changes what the model computes, and notes its digest in the manifest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, name: &str, table: &RecordBatch) -> Result<(), IoError> {
        self.check_name(name)?;
        write_table(&self.partial, name, table)?;
        let (bytes, digest) = digest_of(&self.partial.join(name))?;
        self.manifest.files.push(FileEntry { file: name.to_owned(), bytes, digest });
        Ok(())
    }

    /// Copies a file of the model along.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn copy(&self, file: &Path) -> Result<(), IoError> {
        let name = file.file_name().ok_or_else(|| IoError::file(file, "is not the path of a file"))?;
        self.check_name(&name.to_string_lossy())?;
        let to = self.partial.join(name);
        fs::copy(file, &to).map(drop).map_err(IoError::system("copy to", &to))
    }

    /// Takes note of the files that the parts were written to, where the format has no parts of its own.
    ///
    /// # Errors
    /// The manifest does not list one.
    pub fn set_files(&mut self, files: Vec<FileEntry>) -> Result<(), IoError> {
        files.iter().try_for_each(|entry| self.check_name(&entry.file))?;
        self.manifest.files.extend(files);
        Ok(())
    }

    /// Checks that the manifest lists a file, so that it can be told from other people's.
    fn check_name(&self, name: &str) -> Result<(), IoError> {
        if self.manifest.names.iter().flatten().any(|listed| listed == name) {
            return Ok(());
        }
        Err(IoError::file(&self.partial.join(name), "is not written: the manifest does not list it"))
    }

    /// Completes the manifest with what is known of the parts.
    ///
    /// # Errors
    /// A part is missing.
    pub fn complete(&mut self) -> Result<(), IoError> {
        if let Some(missing) = self.unfinished().first() {
            return Err(IoError::file(&self.partial, format!("is not complete: part {missing} is missing")));
        }
        let mut bytes: HashMap<&str, u64> = HashMap::new();
        for report in self.finished.iter().flatten().flat_map(|part| &part.reports) {
            let sum = bytes.entry(&report.name).or_default();
            *sum = sum.saturating_add(report.bytes_out);
        }
        for tensor in &mut self.manifest.tensors {
            tensor.bytes = bytes.get(tensor.name.as_str()).copied();
        }
        for (entry, part) in self.manifest.parts.iter_mut().zip(self.finished.iter().flatten()) {
            entry.bytes = Some(part.bytes);
            entry.digest = Some(part.digest.clone());
        }
        Ok(())
    }

    /// What was written, as a model, before it has its place; the manifest is [complete](Self::complete).
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(&self) -> Result<Model, IoError> {
        if self.manifest.output_format.has_parts() {
            return Model::of_parts(QuantizedModel::with(&self.partial, self.manifest.clone())?);
        }
        Model::open(&self.partial)
    }

    /// Completes the manifest and renames the folder into place. What was there before is removed last.
    ///
    /// # Errors
    /// A part is missing, or the system refuses to write or rename.
    pub fn finish(mut self) -> Result<PathBuf, IoError> {
        self.complete()?;
        let weights = self.partial.join("weights");
        if self.manifest.output_format.has_parts() {
            sync(&weights)?;
        } else {
            // Markers have done their service.
            self.manifest.parts.clear();
            fs::remove_dir_all(&weights).map_err(IoError::system("remove", &weights))?;
        }
        self.manifest.complete = true;
        self.manifest.write(&self.partial)?;
        let lock = self.partial.join(LOCK);
        fs::remove_file(&lock).map_err(IoError::system("remove", &lock))?;
        sync(&self.partial)?;
        let old = beside(&self.target, ".replaced")?;
        let replaces = self.existing.replaces() && exists(&self.target)?;
        let force = self.existing == Existing::Force;
        if replaces {
            Entries::of(&self.target)?.check(force)?;
            if exists(&old)? {
                remove(&old, force)?;
            }
            fs::rename(&self.target, &old).map_err(IoError::system("rename", &self.target))?;
        }
        if let Err(error) = fs::rename(&self.partial, &self.target) {
            if replaces {
                // Back to where it was; if that fails too, the first error is the one to tell.
                let _ = fs::rename(&old, &self.target);
            }
            return Err(IoError::system("rename into place", &self.target)(error));
        }
        if replaces {
            remove(&old, force)?;
        }
        if let Some(parent) = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync(parent)?;
        }
        Ok(self.target)
    }
}

/// The path of a folder with something behind its name.
fn beside(target: &Path, suffix: &str) -> Result<PathBuf, IoError> {
    let name = target.file_name().ok_or_else(|| IoError::file(target, "is not a path that a folder can be made at"))?;
    let mut name = name.to_owned();
    name.push(suffix);
    Ok(target.with_file_name(name))
}

fn exists(path: &Path) -> Result<bool, IoError> {
    // A dangling link is something that is there.
    Ok(path.is_symlink() || path.try_exists().map_err(IoError::system("look at", path))?)
}

/// Removes an output folder, unless it holds what no run wrote; with `force`, that too.
fn remove(folder: &Path, force: bool) -> Result<(), IoError> {
    let entries = Entries::of(folder)?;
    entries.check(force)?;
    entries.remove()
}

/// Locks a folder against other runs until the file is closed.
fn lock(partial: &Path) -> Result<File, IoError> {
    let path = partial.join(LOCK);
    let file = File::create(&path).map_err(IoError::system("create", &path))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(IoError::file(partial, "is being written by another run")),
        // A file system without locks: the run goes on without.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// What is free where a path lies, if the system says so.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Makes the names in a folder durable.
fn sync(folder: &Path) -> Result<(), IoError> {
    if cfg!(unix) {
        let file = File::open(folder).map_err(IoError::system("open", folder))?;
        file.sync_all().map_err(IoError::system("write", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
