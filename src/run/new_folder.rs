//! The output folder that a run begins, and what it says of the choices.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{JobError, plan::PlannedJob, prepared::Prepared};
use crate::{
    compute::DAMPING,
    model::said,
    output::{existing::Existing, folder::OutputFolder, new_manifest::new_manifest},
    plan::{
        equalization::{
            change::Change,
            changes::Equalization,
            lineage::{Channels, SOURCE_CHANNELS},
        },
        selection::Choice,
    },
    storage::{
        error::IoError,
        folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, EQUALIZATION_DIGEST, EQUALIZED_VERSION, REPORT, WIDTHS},
    },
};

impl PlannedJob {
    /// Returns the folder to write, with the model's own files in it.
    pub(super) fn new_folder(
        &self,
        output: &Path,
        existing: Existing,
        equalization: Option<&Equalization>,
    ) -> Result<OutputFolder, JobError> {
        let mut options = self.spec.recorded().map_err(IoError::from)?;
        if let Some(activations) = &self.activations {
            options.insert("activations".into(), serde_json::json!({ "digest": activations.digest }));
        }
        if let Some(factors) = &self.factors {
            let hessians = serde_json::json!({ "digest": factors.digest, "damping": DAMPING });
            options.insert("hessians".into(), hessians);
        }
        if let Some(digest) = &self.saved {
            options.insert("plan".into(), serde_json::json!({ "digest": digest }));
        }
        let channels = Channels::of(&self.model)?;
        if let Some(channels) = channels.stored() {
            options.insert(SOURCE_CHANNELS.into(), channels.into());
        }
        if let Some(equalization) = equalization {
            options.insert(EQUALIZATION_DIGEST.into(), equalization.digest().into());
        }
        let copied = self.copied_files()?;
        let names = self.names(&copied, equalization.is_some());
        let mut manifest =
            new_manifest(&self.model, &self.parts, self.spec.format.as_ref(), options, self.sql.clone(), names);
        if let Some(equalization) = equalization {
            for (number, entry) in manifest.tensors.iter_mut().enumerate() {
                if let Some(stored) = self.stored_as(equalization, number) {
                    entry.dtype = stored.to_string();
                }
            }
            if equalization.scaled() > 0 {
                manifest.format_version = EQUALIZED_VERSION;
            }
        }
        let folder = OutputFolder::create(output, existing, manifest, &self.reads)?;
        folder.check_space(self.bytes_out().sum())?;
        for file in copied {
            folder.copy(&file)?;
        }
        Ok(folder)
    }

    /// Returns the files of the model that are copied. A file that says how the model is quantized is not, where its weights
    /// are decoded.
    fn copied_files(&self) -> Result<Vec<PathBuf>, JobError> {
        let mut files = self.model.config_files()?;
        let stale = |file: &PathBuf| said::SIDE_FILES.iter().any(|name| file.ends_with(name));
        files.retain(|file| self.export.is_none() || !stale(file));
        Ok(files)
    }

    /// Returns the names of all files beside the manifest and the parts, `copied` ones among them, sorted.
    fn names(&self, copied: &[PathBuf], equalized: bool) -> Vec<String> {
        let tables = [
            (REPORT, true),
            (WIDTHS, self.widths.is_some()),
            (ACTIVATION_PARAMS, self.activations.is_some()),
            (EQUALIZATION, equalized),
        ];
        let tables = tables.into_iter().filter(|(_, written)| *written).map(|(name, _)| name.to_owned());
        let copied = copied.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
        let layout = self.export.iter().flat_map(|export| export.layout.names()).map(str::to_owned);
        let names: BTreeSet<String> = tables.chain(copied).chain(layout).collect();
        names.into_iter().collect()
    }

    /// Returns the choices, with what equalization made of each tensor in their notes.
    pub(super) fn noted(&self, prepared: &Prepared) -> Vec<Choice> {
        let mut choices = self.choices.clone();
        let Prepared { equalization: Some(equalization), left_alone, .. } = prepared else { return choices };
        for (tensor, choice) in self.model.tensors().iter().zip(&mut choices) {
            let change = equalization.of(&tensor.name).map(Change::note);
            let alone = || Some(format!("not equalized: {}", left_alone.get(&tensor.name)?));
            let Some(note) = change.or_else(alone) else { continue };
            choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
        }
        choices
    }
}
