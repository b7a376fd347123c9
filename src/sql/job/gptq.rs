//! Hessians of the layers' inputs in a run: what they must fit, and the tensors that GPTQ quantizes.

use std::{collections::HashMap, path::Path};

use super::{JobError, PlannedJob};
use crate::io::{IoError, hessians::read_factors};

/// Why a job cannot have both Hessians and a least ratio, whichever was asked for first.
pub(super) fn without_a_ratio() -> JobError {
    let problem = "--hessians cannot be used with --min-sqnr: GPTQ lets weights lose more for the sake of outputs";
    IoError::Request(problem.to_owned()).into()
}

impl PlannedJob {
    /// Reads the Hessians that calibration wrote (Parquet), and has the quantized tensors that they name quantized by
    /// GPTQ; the notes of their choices say so. Tensors whose Hessian cannot be factored are quantized as without.
    ///
    /// # Errors
    /// The file cannot be read or does not fit the model (see [`read_factors`]), or the job has quantizers without zero
    /// points, equalized channels, a least ratio, or a format for other programs.
    pub fn with_hessians(mut self, file: &Path, threads: usize) -> Result<Self, JobError> {
        let refuse = |problem: &str| Err(IoError::Request(format!("--hessians {problem}")).into());
        if self.export.is_some() {
            return refuse("needs --format parquet or arrow: other formats have scales of their own");
        }
        if self.choices.iter().any(|choice| choice.options.is_some_and(|options| options.symmetric)) {
            return refuse("cannot be used with --symmetric: GPTQ quantizes with zero points");
        }
        if let Some(equalized) = &self.equalized {
            let possible = equalized.by.check(self.activations.is_some(), true);
            possible.map_err(|error| IoError::Request(error.to_string()))?;
        }
        if self.goals.min_sqnr.is_some() {
            return Err(without_a_ratio());
        }
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
        self.reads.push(file.to_owned());
        Ok(self)
    }

    /// How many tensors GPTQ quantizes.
    pub fn by_gptq(&self) -> usize {
        self.factors.as_ref().map_or(0, |factors| factors.notes().filter(|(_, factored, _)| *factored).count())
    }
}
