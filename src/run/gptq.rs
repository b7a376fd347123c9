//! Hessians of the layers' inputs in a run: what they must fit, and the tensors that GPTQ quantizes.

use std::collections::HashMap;

use super::{JobError, plan::PlannedJob};
use crate::plan::hessians_file::read_factors;

impl PlannedJob {
    /// Reads the Hessians that calibration wrote (Parquet), where the spec names a file, and has the quantized tensors that
    /// they name quantized by GPTQ; the notes of their choices say so. Tensors whose Hessian cannot be factored are
    /// quantized as without.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not fit the model (see [`read_factors`]).
    pub(super) fn read_hessians(&mut self, threads: usize) -> Result<(), JobError> {
        let Some(file) = &self.spec.hessians else { return Ok(()) };
        let tensors = self.model.tensors().iter().zip(&self.choices).enumerate();
        let quantized: HashMap<&str, usize> = tensors
            .filter(|(_, (_, choice))| choice.options.is_some())
            .map(|(number, (tensor, _))| (tensor.name.as_str(), number))
            .collect();
        let factors = read_factors(file, &self.model, |name| quantized.contains_key(name), threads)?;
        for (name, _, note) in factors.notes() {
            let Some(choice) = quantized.get(name).and_then(|number| self.choices.get_mut(*number)) else { continue };
            choice.note = if choice.note.is_empty() { note } else { format!("{}; {note}", choice.note) };
        }
        self.factors = Some(factors);
        Ok(())
    }

    /// How many tensors GPTQ quantizes.
    pub fn by_gptq(&self) -> usize {
        self.factors.as_ref().map_or(0, |factors| factors.notes().filter(|(_, factored, _)| *factored).count())
    }
}
