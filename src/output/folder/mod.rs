//! An output folder in the making: written beside its place and renamed when complete.

mod entries;
pub mod existing;
mod finish;
mod lock;
mod place;
pub mod reads;
mod target;
mod unfinished;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::RecordBatch;
use existing::Existing;
use place::{Left, Place, partial_of};
use reads::Reads;
use target::check;
use unfinished::{PARTS, Unfinished};

use super::pending_part::WrittenPart;
use crate::{
    model::{Model, output_folder::QuantizedModel, side_files::SideFile},
    storage::{
        atomic_file::{copy_renamed, exists, folder_of, sync_folder},
        digest::digest_of,
        error::IoError,
        folder::{
            manifest::{FileEntry, MANIFEST, Manifest, WEIGHTS},
            tensor_report::TensorReport,
        },
        parquet_table::write_table,
    },
};

/// An output folder in the making.
#[derive(Debug)]
pub struct OutputFolder {
    place: Place,
    output: PathBuf,
    unfinished: Unfinished,
    manifest: Arc<Manifest>,
    finished: Vec<Option<WrittenPart>>,
}

impl OutputFolder {
    /// Checks that an output can go to `target`, as far as what is there tells: before anything is measured or written.
    /// `reads` is what the run reads.
    ///
    /// # Errors
    /// Returns an error if the target exists (unless it is to be overwritten, and holds nothing else than a run wrote),
    /// looks like a file name, or an unfinished run is in the way; or the run reads what would be replaced.
    pub fn check_target(target: &Path, existing: Existing, reads: &Reads) -> Result<(), IoError> {
        let partial = partial_of(target)?;
        reads.check_outside(target)?;
        reads.check_outside(&partial)?;
        if !exists(&partial)? {
            return check(target, &partial, existing, &Left::Nothing);
        }
        let (place, left) = Place::take(target)?;
        check(target, &partial, existing, &left)?;
        place.release()
    }

    /// Tells whether an output is complete, after what a run that was killed had still to do there.
    ///
    /// # Errors
    /// Returns an error if another run holds the place, or if the system refuses.
    pub fn is_complete(target: &Path) -> Result<bool, IoError> {
        if exists(&partial_of(target)?)? {
            Place::take(target)?.0.release()?;
        }
        Ok(Manifest::read(target).is_ok_and(|there| there.complete))
    }

    /// Begins, or goes on with, the output that a manifest describes. All is kept in the folder `TARGET.partial` until the
    /// output is complete. `reads` is what the run reads.
    ///
    /// # Errors
    /// Returns the errors of [`Self::check_target`], and an error if an unfinished run differs (the message says in what),
    /// another run is writing it, or the folder above is missing or not writable.
    pub fn create(target: &Path, existing: Existing, manifest: Manifest, reads: &Reads) -> Result<Self, IoError> {
        reads.check_outside(target)?;
        reads.check_outside(&partial_of(target)?)?;
        let (place, left) = Place::take(target)?;
        check(target, &place.partial, existing, &left)?;
        let (unfinished, resumes) = match (left, existing) {
            (Left::Unknown(error), Existing::Resume) => return Err(error),
            (Left::Run(unfinished), Existing::Resume) => {
                reads.check_resumed(&unfinished.sources)?;
                if let Some(difference) = unfinished.manifest.difference(&manifest) {
                    return Err(IoError::file(&place.partial, format!("cannot be resumed: {difference}")));
                }
                (*unfinished, true)
            }
            (_, existing) => {
                place.clear(existing == Existing::Force)?;
                // Whoever resumes it has not said that anything may be replaced.
                let existing = if existing == Existing::Resume { Existing::Refuse } else { existing };
                let unfinished =
                    Unfinished { existing, placing: None, sources: reads.stamps(), manifest: manifest.clone() };
                unfinished.write(&place.partial)?;
                (unfinished, false)
            }
        };
        let output = place.output();
        let weights = manifest.part_format().map(|_| output.join(WEIGHTS));
        for folder in [Some(output.clone()), weights, Some(place.partial.join(PARTS))].into_iter().flatten() {
            fs::create_dir_all(&folder).map_err(IoError::system("create", &folder))?;
        }
        let finished = vec![None; manifest.parts.len()];
        let mut folder = Self { place, output, unfinished, manifest: Arc::new(manifest), finished };
        if resumes {
            folder.find_finished()?;
        }
        Ok(folder)
    }

    /// Takes up the parts that are whole; one that is not is written again.
    fn find_finished(&mut self) -> Result<(), IoError> {
        // It was complete and did not get its place. It is complete again when all is looked at.
        let manifest = self.output.join(MANIFEST);
        if exists(&manifest)? {
            fs::remove_file(&manifest).map_err(IoError::system("remove", &manifest))?;
        }
        for (number, (entry, finished)) in self.manifest.parts.iter().zip(&mut self.finished).enumerate() {
            let Some(written) = WrittenPart::read(&self.place.partial, number) else { continue };
            let path = self.output.join(&entry.file);
            let rows = written.reports.iter().fold(0, |rows: u64, report| rows.saturating_add(report.rows));
            let whole = || {
                let stored = self.manifest.part_format().is_none()
                    || (exists(&path)? && digest_of(&path)? == (written.bytes, written.digest.clone()));
                Ok::<_, IoError>(stored)
            };
            if rows == entry.row_count() as u64 && whole()? {
                *finished = Some(written);
            }
        }
        Ok(())
    }

    /// Returns the folder while it is written: where parts and the report go.
    pub fn path(&self) -> &Path {
        &self.output
    }

    /// Returns the folder that an unfinished run leaves, and that another can go on with.
    pub fn partial(&self) -> &Path {
        &self.place.partial
    }

    /// Returns the path that the output will have.
    pub fn target(&self) -> &Path {
        &self.place.target
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.manifest)
    }

    /// Checks that there is room for the bytes still to be written.
    ///
    /// # Errors
    /// Returns an error if the file system says that it has less than `bytes` free.
    pub fn check_space(&self, bytes: u64) -> Result<(), IoError> {
        match free_bytes(&self.output).filter(|free| *free < bytes) {
            None => Ok(()),
            Some(free) => {
                let problem = format!("needs about {bytes} bytes of space, and {free} are free");
                Err(IoError::file(&self.output, problem))
            }
        }
    }

    /// Returns the numbers of the parts that are still to be written.
    pub fn unfinished(&self) -> Vec<usize> {
        (0..self.finished.len()).filter(|part| self.finished[*part].is_none()).collect()
    }

    /// Notes on the disk that a part is finished: its file has its name, or its rows are in their places.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn note(&self, number: usize, part: &WrittenPart) -> Result<(), IoError> {
        part.write(&self.place.partial, number)
    }

    /// Takes note of a written part.
    ///
    /// # Errors
    /// Returns an error if there is no such part.
    pub fn add(&mut self, number: usize, part: WrittenPart) -> Result<(), IoError> {
        let parts = self.finished.len();
        let slot = self.finished.get_mut(number);
        *slot.ok_or_else(|| IoError::file(&self.output, format!("has {parts} parts, no part {number}")))? = Some(part);
        Ok(())
    }

    /// Returns a part, if it is finished.
    pub fn finished(&self, number: usize) -> Option<&WrittenPart> {
        self.finished.get(number)?.as_ref()
    }

    /// Returns the reports of all finished parts on their tensors, in the order of the parts.
    pub fn reports(&self) -> impl Iterator<Item = &TensorReport> {
        self.finished.iter().flatten().flat_map(|part| &part.reports)
    }

    /// Returns the bytes of the files written so far: the weights, and the tables that belong to them.
    pub fn file_bytes(&self) -> u64 {
        let parts = self.finished.iter().flatten().map(|part| part.bytes);
        // The parts of other formats are markers, which go.
        let parts: u64 = if self.manifest.part_format().is_some() { parts.sum() } else { 0 };
        parts + self.manifest.files.iter().map(|file| file.bytes).sum::<u64>()
    }

    /// Writes a table that changes what the model computes, and notes its digest in the manifest.
    ///
    /// # Errors
    /// Returns an error if it cannot be written.
    pub fn write(&mut self, name: &str, table: &RecordBatch) -> Result<(), IoError> {
        self.check_name(name)?;
        write_table(&self.output, name, table)?;
        let (bytes, digest) = digest_of(&self.output.join(name))?;
        Arc::make_mut(&mut self.manifest).files.push(FileEntry { file: name.to_owned(), bytes, digest });
        Ok(())
    }

    /// Copies a file of the model along.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or written.
    pub fn copy(&self, file: &SideFile) -> Result<(), IoError> {
        self.check_name(&file.name)?;
        let to = self.output.join(&file.name);
        let inside = folder_of(&to);
        fs::create_dir_all(inside).map_err(IoError::system("create", inside))?;
        copy_renamed(&file.path, &to)?;
        inside.ancestors().take_while(|folder| *folder != self.output).try_for_each(sync_folder)
    }

    /// Takes note of the files that the parts were written to, where the format has no parts of its own.
    ///
    /// # Errors
    /// Returns an error if the manifest does not list one.
    pub fn set_files(&mut self, files: Vec<FileEntry>) -> Result<(), IoError> {
        files.iter().try_for_each(|entry| self.check_name(&entry.file))?;
        Arc::make_mut(&mut self.manifest).files.extend(files);
        Ok(())
    }

    /// Checks that the manifest lists a file, so that it can be told from other people's.
    fn check_name(&self, name: &str) -> Result<(), IoError> {
        if self.manifest.names.iter().flatten().any(|listed| listed == name) {
            return Ok(());
        }
        Err(IoError::file(&self.output.join(name), "is not written: the manifest does not list it"))
    }

    /// Opens the written files as a model, before the output has its place; the manifest is [complete](Self::complete).
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn open(&self) -> Result<Model, IoError> {
        if self.manifest.part_format().is_some() {
            return Model::of_parts(QuantizedModel::with(&self.output, Manifest::clone(&self.manifest))?);
        }
        Model::open(&self.output)
    }
}

/// Returns the free space of the file system at a path, if the system says so.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|space| space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests;
