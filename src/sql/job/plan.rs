//! What a run will do, known from the headers alone.

use std::sync::Arc;

use arrow_array::RecordBatch;

use super::{CheckedActivations, Job, JobError};
use crate::io::{Choice, Model, Part, choice::choices_batch, scan::PART_BYTES};

/// A job whose model has been opened and whose tensors have been chosen. No weights have been read.
#[derive(Debug)]
pub struct PlannedJob {
    pub(super) job: Job,
    pub(super) model: Arc<Model>,
    pub(super) choices: Vec<Choice>,
    pub(super) parts: Vec<Part>,
    pub(super) activations: Option<CheckedActivations>,
}

impl Job {
    /// Opens the model and chooses its tensors.
    ///
    /// # Errors
    /// When the model cannot be read or the selection names nothing in it.
    pub fn plan(self) -> Result<PlannedJob, JobError> {
        let model = if self.batch { Model::load(&self.model)? } else { Model::open(&self.model)? };
        let choices = self.rules.choose(&model)?;
        let parts = model.parts(None, PART_BYTES);
        Ok(PlannedJob { job: self, model: Arc::new(model), choices, parts, activations: None })
    }
}

impl PlannedJob {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// What happens to each tensor, in the order of the model.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The table `choices` that `sql/quantize.sql` joins: one row per tensor.
    ///
    /// # Errors
    /// When a number does not fit its column.
    pub fn choices_batch(&self) -> Result<RecordBatch, JobError> {
        Ok(choices_batch(&self.model, &self.choices)?)
    }

    /// Bytes that each tensor will take, in the order of the model.
    pub fn bytes_out(&self) -> impl Iterator<Item = u64> {
        self.model.tensors().iter().zip(&self.choices).map(|(tensor, choice)| choice.bytes_out(tensor))
    }
}
