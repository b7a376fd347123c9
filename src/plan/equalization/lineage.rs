//! The channels that the weights of a model are in: those of its original, or those that equalization made of them.

use super::changes::Equalization;
use crate::{
    model::Model,
    storage::{
        error::IoError,
        folder::manifest::{EQUALIZATION, FileEntry, MANIFEST, Manifest},
    },
};

/// The option of a manifest that says which channels the source was in, where equalization had made them.
pub const SOURCE_CHANNELS: &str = "source_channels";

/// The channels that the weights of a model are in, as far as its folder tells. An equalization stands for the channels that
/// it made, by the digest of its file. `None` means those of a model that never was equalized.
#[derive(Debug, Default)]
pub struct Channels {
    /// The channels of the source that the model was made from.
    pub source: Option<String>,
    /// The changes of the run that made it.
    entry: Option<FileEntry>,
}

impl Channels {
    /// Returns the channels of a model that lies in an output folder; another model has the default.
    ///
    /// # Errors
    /// Returns an error if the manifest of the folder cannot be read.
    pub fn of(model: &Model) -> Result<Self, IoError> {
        let folder = model.folder();
        if !folder.join(MANIFEST).is_file() {
            return Ok(Self::default());
        }
        let mut manifest = Manifest::read(folder)?;
        let written = |name: &str| manifest.files.iter().any(|entry| entry.file == name);
        let is_its_own = match model.part_rows() {
            Some(_) => true,
            None => model.files().iter().any(|file| written(&file.name)),
        };
        if !is_its_own {
            return Ok(Self::default());
        }
        let source = manifest.options.get(SOURCE_CHANNELS).and_then(|digest| digest.as_str()).map(str::to_owned);
        let at = manifest.files.iter().position(|entry| entry.file == EQUALIZATION);
        Ok(Self { source, entry: at.map(|at| manifest.files.swap_remove(at)) })
    }

    /// Returns the channels of the stored weights.
    pub fn stored(&self) -> Option<&str> {
        self.entry.as_ref().map(|entry| entry.digest.as_str()).or(self.source.as_deref())
    }

    /// Returns the change that brings the weights back to the channels of the source; `None` if nothing was changed.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or is not the one that the manifest tells of.
    pub fn equalization(&self, model: &Model) -> Result<Option<Equalization>, IoError> {
        let Some(entry) = &self.entry else { return Ok(None) };
        entry.verify(model.folder())?;
        Equalization::read(&model.folder().join(EQUALIZATION)).map(Some)
    }
}
