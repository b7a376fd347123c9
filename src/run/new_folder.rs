//! The output folder that a run begins, and what it says of the choices.

use std::{collections::BTreeSet, path::Path};

use super::{RunError, measure::prepared::Prepared, plan::Plan};
use crate::{
    compute::DAMPING,
    model::{said, side_files::SideFile},
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
        folder::manifest::{
            ACTIVATION_PARAMS, EQUALIZATION, EQUALIZATION_DIGEST, EQUALIZED_VERSION, MANIFEST, REPORT, WEIGHTS, WIDTHS,
            is_part,
        },
    },
};

impl Plan {
    /// Returns the folder to write, with the model's own files in it.
    pub(super) fn new_folder(
        &self,
        output: &Path,
        existing: Existing,
        equalization: Option<&Equalization>,
    ) -> Result<OutputFolder, RunError> {
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
        let (copied, names) = self.files(equalization.is_some());
        let names = names.into_iter().collect();
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
        folder.check_space(self.bytes_out().chain(copied.iter().map(|file| file.bytes)).sum())?;
        copied.into_iter().try_for_each(|file| folder.copy(file))?;
        Ok(folder)
    }

    /// Tells whether a file beside the weights is copied. One that the run makes anew is not, nor is one that says how the
    /// model is quantized where its weights are decoded.
    fn copies(&self, file: &SideFile, made: &BTreeSet<String>) -> bool {
        let stale = self.export.is_some() && said::SIDE_FILES.contains(&file.name.as_str());
        let parts = self.export.is_none() && (file.name == WEIGHTS || is_part(&file.name));
        !(stale || parts || file.name == MANIFEST || made.contains(&file.name))
    }

    /// Returns the files that are copied, and the names of all files beside the manifest and the parts.
    pub(super) fn files(&self, equalized: bool) -> (Vec<&SideFile>, BTreeSet<String>) {
        let mut names = self.made_files(equalized);
        let copied: Vec<&SideFile> = self.side.files.iter().filter(|file| self.copies(file, &names)).collect();
        names.extend(copied.iter().map(|file| file.name.clone()));
        (copied, names)
    }

    /// Returns the names of the files that the run makes beside the manifest and the parts.
    fn made_files(&self, equalized: bool) -> BTreeSet<String> {
        let tables = [
            (REPORT, true),
            (WIDTHS, self.widths.is_some()),
            (ACTIVATION_PARAMS, self.activations.is_some()),
            (EQUALIZATION, equalized),
        ];
        let tables = tables.into_iter().filter(|(_, written)| *written).map(|(name, _)| name);
        let layout = self.export.iter().flat_map(|export| export.layout.names());
        tables.chain(layout).map(str::to_owned).collect()
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
