//! What a run will do, known from the headers alone.

use std::{path::PathBuf, sync::Arc};

use arrow_array::RecordBatch;

use super::{CheckedActivations, Destination, EqualizedInputs, Job, JobError};
use crate::{
    io::{
        Choice, Equalization, Export, Model, OutputFolder, Part,
        choice::{Goals, Width, choices_batch, widths_batch},
        export,
        hessians::Factors,
        piece::Piece,
        scan::part_bytes,
    },
    types::{Float, OutputFormat},
};

/// A job whose model has been opened and whose tensors have been chosen. No weights have been read.
#[derive(Debug)]
pub struct PlannedJob {
    pub(super) job: Job,
    pub(super) model: Arc<Model>,
    pub(super) choices: Vec<Choice>,
    pub(super) parts: Vec<Part>,
    pub(super) activations: Option<CheckedActivations>,
    /// The inputs whose channels are equalized; none unless asked for.
    pub(super) equalized: Option<EqualizedInputs>,
    /// What GPTQ needs of the layers whose inputs are known.
    pub(super) factors: Option<Factors>,
    /// How a format without parts is written.
    pub(super) export: Option<Export>,
    pub(super) goals: Goals,
    /// What each tensor takes and loses at each width, where goals made it be measured.
    pub(super) widths: Option<Vec<Vec<Width>>>,
    /// The files and folders that the run reads.
    pub(super) reads: Vec<PathBuf>,
}

impl Job {
    /// Opens the model and chooses its tensors.
    ///
    /// # Errors
    /// When the model cannot be read, the selection names nothing in it, or the format cannot hold it.
    pub fn plan(self) -> Result<PlannedJob, JobError> {
        let model = if self.batch { Model::load(&self.model)? } else { Model::open(&self.model)? };
        let model = model.decoded(self.target.format == OutputFormat::Gguf);
        let mut choices = self.rules.choose(&model)?;
        let export = export::plan(&model, &mut choices, &self.target)?;
        let parts = model.parts_of(
            None,
            part_bytes(model.total_bytes()),
            if export.is_some() { Piece::ROWS_TOGETHER } else { 1 },
        );
        let mut reads = vec![self.model.clone(), model.folder().to_owned()];
        reads.extend(model.files().iter().map(|file| file.path.clone()));
        reads.extend(model.config_files()?);
        Ok(PlannedJob {
            job: self,
            model: Arc::new(model),
            choices,
            parts,
            activations: None,
            equalized: None,
            factors: None,
            export,
            goals: Goals::default(),
            widths: None,
            reads,
        })
    }
}

impl PlannedJob {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Checks that the output can go where it is to, as far as what is there tells. `others` are files that the run will
    /// read as well: see [`OutputFolder::check_target`].
    ///
    /// # Errors
    /// Those of [`OutputFolder::check_target`].
    pub fn check_target(
        &self,
        destination: &Destination,
        others: impl IntoIterator<Item = PathBuf>,
    ) -> Result<(), JobError> {
        let reads: Vec<PathBuf> = self.reads.iter().cloned().chain(others).collect();
        Ok(OutputFolder::check_target(&destination.output, destination.existing, &reads)?)
    }

    /// What happens to each tensor, in the order of the model.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The table `choices` that the query joins: one row per tensor.
    ///
    /// # Errors
    /// When a number does not fit its column.
    pub fn choices_batch(&self, equalization: Option<&Equalization>) -> Result<RecordBatch, JobError> {
        match &self.export {
            Some(export) => {
                let squares = self.activations.as_ref().map(CheckedActivations::mean_squares);
                Ok(export.choices_batch(&self.model, squares, equalization)?)
            }
            None => Ok(choices_batch(&self.model, &self.choices)?),
        }
    }

    /// What each tensor would take and lose at each width, where goals made it be measured: the table of
    /// [`widths_schema`](crate::io::choice::widths_schema).
    ///
    /// # Errors
    /// When Arrow refuses to build the batch.
    pub fn widths_batch(&self) -> Result<Option<RecordBatch>, JobError> {
        let batch = self.widths.as_ref().map(|widths| widths_batch(&self.model, &self.choices, widths)).transpose();
        Ok(batch?)
    }

    /// The width that was chosen for each tensor, in the order of the model, where it was measured.
    pub fn chosen_widths(&self) -> impl Iterator<Item = Option<&Width>> {
        self.choices.iter().enumerate().map(|(tensor, choice)| {
            let widths = self.widths.as_ref()?.get(tensor)?;
            widths.iter().find(|width| choice.options == Some(width.options))
        })
    }

    /// Whether a tensor of parts is stored as F32 whatever it was: a norm or a bias that factors may be folded into. Those
    /// that `--equalize auto` leaves alone in the end are too, so that the size is known before.
    pub(super) fn is_widened(&self, number: usize) -> bool {
        let divided = |equalized: &EqualizedInputs| equalized.divided_vectors.contains(&number);
        self.export.is_none() && self.equalized.as_ref().is_some_and(divided)
    }

    /// The source bytes of all parts: what a pass over the model counts.
    pub(super) fn part_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes that each tensor will take, in the order of the model.
    pub fn bytes_out(&self) -> impl Iterator<Item = u64> {
        let tensors = self.model.tensors().iter().zip(&self.choices).enumerate();
        tensors.map(|(number, (tensor, choice))| match &self.export {
            Some(export) => export.layout.bytes_of(number, tensor.rows),
            None if self.is_widened(number) => (tensor.elements() * Float::F32.bytes()) as u64,
            None => choice.bytes_out(&self.model, tensor),
        })
    }
}
