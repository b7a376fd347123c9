//! Hessians of the layers' inputs in a run: what they must fit, and the tensors that GPTQ quantizes.

use std::{collections::HashSet, path::Path, sync::atomic::AtomicBool};

use arrow::compute::concat_batches;
use arrow_array::RecordBatch;

use crate::{
    plan::hessians_file::{Factors, Hessian, read_hessians},
    run::{
        RunError,
        plan::Plan,
        tables::{collect, replace},
        workers::take_parts,
    },
    sql::{Session, error::of_function, recipes, threads::runtime},
    storage::{
        digest::digest_of,
        error::{IoError, without_row},
    },
    types::factor::factors_schema,
};

impl Plan {
    /// Reads the Hessians that calibration wrote (Parquet), where the spec names a file, and has the quantized tensors that
    /// they name quantized by GPTQ; the notes of their choices say so. Tensors whose Hessian cannot be factored are
    /// quantized as without.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not fit the model (see [`read_hessians`]), or has a number that is not finite.
    pub(in crate::run) fn read_hessians(&mut self, threads: usize) -> Result<(), RunError> {
        let Some(file) = &self.spec.hessians else { return Ok(()) };
        let tensors = self.model.tensors().iter().zip(&self.choices);
        let quantized: HashSet<&str> =
            tensors.filter(|(_, choice)| choice.options.is_some()).map(|(tensor, _)| tensor.name.as_str()).collect();
        let (mut waiting, mut tables) = (Vec::new(), Vec::new());
        read_hessians(
            file,
            &self.model,
            |name| quantized.contains(name),
            |hessian| {
                waiting.push(hessian);
                if waiting.len() >= threads {
                    tables.extend(factored(file, &std::mem::take(&mut waiting))?);
                }
                Ok::<_, RunError>(())
            },
        )?;
        tables.extend(factored(file, &waiting)?);
        let table = concat_batches(&factors_schema(), &tables).map_err(IoError::arrow(file))?;
        self.use_factors(Factors { digest: digest_of(file)?.1, table });
        Ok(())
    }

    /// Has the tensors that the factors name quantized by GPTQ.
    pub(in crate::run) fn use_factors(&mut self, factors: Factors) {
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

/// Runs `sql/hessian_factors.sql` over each of some Hessians, each on a thread of its own, and gives the factors in their order.
fn factored(file: &Path, hessians: &[Hessian]) -> Result<Vec<RecordBatch>, RunError> {
    let runtime = runtime(1)?;
    let query = async |hessian: &Hessian| {
        let session = Session::unlimited(1)?;
        replace(&session, "hessians", hessian.table.clone())?;
        collect(session.sql(recipes::HESSIAN_FACTORS.sql).await?, &factors_schema()).await
    };
    let factored = |number: usize| {
        let hessian = &hessians[number];
        runtime.block_on(query(hessian)).map_err(|error| match &error {
            RunError::Query(query) if let Some(refused) = of_function(query) => {
                let problem = without_row(&refused.source);
                IoError::file(file, format!("row {}: '{}': {problem}", hessian.row, hessian.name)).into()
            }
            _ => error,
        })
    };
    let all: Vec<usize> = (0..hessians.len()).collect();
    let found = take_parts(&all, all.len(), &AtomicBool::new(false), factored, Ok)?;
    Ok(found.into_iter().map(|(_, table)| table).collect())
}
