//! A pass over weights before the run itself: a query over every part, whose results are added up.

mod activation_params;
mod bit_allocation;
pub mod checked_activations;
mod entropy_steps;
mod equalization_factors;
pub mod equalized_inputs;
mod error_sums;
mod hessian_factors;
mod input_channels;
mod prepare;
pub mod prepared;
mod weight_factors;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::TryFutureExt;
use tokio::runtime::Handle;

use crate::{
    model::part::{Part, part_bytes},
    run::{
        Cancel, RunError,
        plan::Plan,
        progress::{Pass, Progress},
        tables::{collect, replace},
        workers::take_parts,
    },
    sql::{Session, recipes::Recipe, tables::WeightsTable},
};

/// With what weights are surveyed.
#[derive(Clone, Copy)]
pub struct Survey<'a> {
    /// Threads that take parts.
    pub threads: usize,
    /// The runtime of the queries.
    pub runtime: &'a Handle,
    /// Is told of every part.
    pub progress: &'a dyn Progress,
    /// Stops it.
    pub cancel: &'a Cancel,
}

impl Survey<'_> {
    /// Runs a recipe over each part of some tensors, in a session of its own, in which `layers` are the rows of the part.
    /// Gives its rows as batches of `schema`, in the order of the parts: sums over them do not depend on the number of
    /// threads.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read, or the run was cancelled.
    pub fn run(
        &self,
        pass: Pass,
        plan: &Plan,
        tensors: &[usize],
        recipe: Recipe,
        tables: &[(&str, RecordBatch)],
        schema: &SchemaRef,
    ) -> Result<Vec<RecordBatch>, RunError> {
        let parts = plan.model.parts(Some(tensors), part_bytes(plan.model.total_bytes()));
        let failed = AtomicBool::new(false);
        let query = async |part: Part| {
            let session = Session::unlimited(1)?;
            let layers = WeightsTable::new(Arc::clone(&plan.model)).with_partitions(vec![part]);
            session.context().register_table("layers", Arc::new(layers))?;
            for (name, batch) in tables {
                replace(&session, name, batch.clone())?;
            }
            collect(session.sql(recipe.sql).await?, schema).await
        };
        let work = |part: usize| {
            let part = &parts[part];
            let rows = self.unless(|| failed.load(Ordering::Relaxed), query(part.clone()));
            self.progress.advance(part.bytes);
            rows.or_else(|error| {
                let over = |part| query(part).map_ok(drop);
                self.wait(async { Err(plan.located(error, part.runs.clone(), None, over).await) })
            })
        };
        self.progress.start(pass, parts.iter().map(|part| part.bytes).sum());
        let all: Vec<usize> = (0..parts.len()).collect();
        let found = take_parts(&all, self.threads, &failed, work, Ok);
        self.progress.finish();
        Ok(found?.into_iter().map(|(_, rows)| rows).collect())
    }

    /// Waits for a query of its own, without parts and progress.
    ///
    /// # Errors
    /// Returns an error if the query fails, or if the run was cancelled.
    pub fn wait<T>(&self, query: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
        self.unless(|| false, query)
    }

    fn unless<T>(
        &self,
        failed: impl Fn() -> bool,
        query: impl Future<Output = Result<T, RunError>>,
    ) -> Result<T, RunError> {
        let stopped = async {
            while !(self.cancel.load(Ordering::Relaxed) || failed()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                done = query => done,
                () = stopped => Err(RunError::Interrupted),
            }
        })
    }
}
