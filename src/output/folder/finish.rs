//! The end of an output: its manifest is completed, and the folder gets its place.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::OutputFolder;
use crate::storage::{atomic_file::sync_folder, error::IoError, folder::manifest::WEIGHTS};

impl OutputFolder {
    /// Completes the manifest with what is known of the parts.
    ///
    /// # Errors
    /// Returns an error if a part is missing.
    pub fn complete(&mut self) -> Result<(), IoError> {
        if let Some(missing) = self.unfinished().first() {
            return Err(IoError::file(&self.place.partial, format!("is not complete: part {missing} is missing")));
        }
        let mut bytes: HashMap<&str, u64> = HashMap::new();
        for report in self.finished.iter().flatten().flat_map(|part| &part.reports) {
            let sum = bytes.entry(&report.name).or_default();
            *sum = sum.saturating_add(report.bytes_out);
        }
        let manifest = Arc::make_mut(&mut self.manifest);
        for tensor in &mut manifest.tensors {
            tensor.bytes = bytes.get(tensor.name.as_str()).copied();
        }
        for (entry, part) in manifest.parts.iter_mut().zip(self.finished.iter().flatten()) {
            entry.bytes = Some(part.bytes);
            entry.digest = Some(part.digest.clone());
        }
        Ok(())
    }

    /// Completes the manifest and gives the folder its place. What was there before is removed last.
    ///
    /// # Errors
    /// Returns an error if a part is missing, what is there must not be replaced, or the system refuses to write or
    /// rename.
    pub fn finish(mut self) -> Result<PathBuf, IoError> {
        self.complete()?;
        if self.manifest.part_format().is_some() {
            sync_folder(&self.output.join(WEIGHTS))?;
        } else {
            Arc::make_mut(&mut self.manifest).parts.clear();
        }
        Arc::make_mut(&mut self.manifest).complete = true;
        self.manifest.write(&self.output)?;
        let target = self.place.target.clone();
        self.place.put(self.unfinished)?;
        Ok(target)
    }
}
