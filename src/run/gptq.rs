//! Hessians of the layers' inputs in a run: what they must fit, and the tensors that GPTQ quantizes.

use std::collections::HashSet;

use super::{JobError, plan::PlannedJob};
use crate::plan::hessians_file::{Factors, read_factors};

impl PlannedJob {
    /// Reads the Hessians that calibration wrote (Parquet), where the spec names a file, and has the quantized tensors that
    /// they name quantized by GPTQ; the notes of their choices say so. Tensors whose Hessian cannot be factored are
    /// quantized as without.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not fit the model (see [`read_factors`]).
    pub(super) fn read_hessians(&mut self, threads: usize) -> Result<(), JobError> {
        let Some(file) = &self.spec.hessians else { return Ok(()) };
        let tensors = self.model.tensors().iter().zip(&self.choices);
        let quantized: HashSet<&str> =
            tensors.filter(|(_, choice)| choice.options.is_some()).map(|(tensor, _)| tensor.name.as_str()).collect();
        let factors = read_factors(file, &self.model, |name| quantized.contains(name), threads)?;
        self.use_factors(factors);
        Ok(())
    }

    /// Has the tensors that the factors name quantized by GPTQ.
    pub(super) fn use_factors(&mut self, factors: Factors) {
        for (name, _, note) in factors.notes() {
            let choice = self.model.number_of(name).and_then(|number| self.choices.get_mut(number));
            let Some(choice) = choice.filter(|choice| choice.options.is_some()) else { continue };
            choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
        }
        self.factors = Some(factors);
    }

    /// Returns the number of tensors that GPTQ quantizes.
    pub fn by_gptq(&self) -> usize {
        self.factors.as_ref().map_or(0, |factors| factors.notes().filter(|(_, factored, _)| *factored).count())
    }
}
