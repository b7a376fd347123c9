//! Threads take parts: each part is one partition of the plan, written beside its place and renamed when whole.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow_array::RecordBatch;
use datafusion::{catalog::MemTable, common::internal_datafusion_err, execution::TaskContext, physical_plan::ExecutionPlan};
use futures::StreamExt;
use tokio::runtime::{Builder, Handle};

use super::{Cancel, Destination, JobError, PlannedJob, Progress, diagnose::name_the_tensor, report, tally};
use crate::{
    io::{OutputFolder, PartWriter, TensorSums, Totals},
    sql::{Session, recipes, tables::WeightsTable},
};

/// What a run made.
#[derive(Debug, Clone)]
pub struct Summary {
    /// One row per tensor, as `report.parquet` holds it.
    pub report: RecordBatch,
    /// The figures over all quantized tensors.
    pub totals: Totals,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Parts that an interrupted run had already finished.
    pub resumed_parts: usize,
}

/// The plan of `sql/quantize.sql`, and what its partitions are written through.
struct Work<'a> {
    job: &'a PlannedJob,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    folder: &'a OutputFolder,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// Set when one thread fails, so that the others stop.
    failed: AtomicBool,
}

impl PlannedJob {
    /// Quantizes the model into a folder. `progress` is told of every batch; `cancel` stops the run within one.
    ///
    /// # Errors
    /// When weights are not finite, a file cannot be read or written, or the run was cancelled. No error leaves a
    /// folder at `destination.output` that looks whole.
    pub fn run(
        &self,
        destination: &Destination,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, JobError> {
        let started = Instant::now();
        let folder = self.open_folder(destination)?;
        let finished = folder.finished_parts()?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(external)?;
        let threads = destination.threads.max(1);
        let session = Session::new(threads)?;
        let plan = runtime.block_on(self.physical_plan(&session))?;

        progress.start(self.parts.iter().map(|part| part.bytes).sum());
        let mut sums: Vec<Option<Vec<TensorSums>>> = Vec::new();
        for (part, finished) in self.parts.iter().zip(&finished) {
            if finished.is_some() {
                progress.advance(part.bytes);
            }
            sums.push(finished.clone());
        }
        let resumed_parts = sums.iter().flatten().count();
        let work = Work {
            job: self,
            plan,
            context: session.context().task_ctx(),
            folder: &folder,
            progress,
            cancel,
            failed: AtomicBool::new(false),
        };
        let result = work.all_parts(threads, &mut sums, runtime.handle());
        progress.finish();
        result?;

        let (report, totals) = runtime.block_on(report::report(self, sums.into_iter().flatten().flatten()))?;
        folder.finish(&report)?;
        Ok(Summary { report, totals, seconds: started.elapsed().as_secs_f64(), resumed_parts })
    }

    /// One partition per part, in their order.
    async fn physical_plan(&self, session: &Session) -> Result<Arc<dyn ExecutionPlan>, JobError> {
        let layers = WeightsTable::new(Arc::clone(&self.model)).with_partitions(self.parts.clone());
        let choices = self.choices_batch()?;
        let choices = MemTable::try_new(choices.schema(), vec![vec![choices]])?;
        session.context().register_table("layers", Arc::new(layers))?;
        session.context().register_table("choices", Arc::new(choices))?;
        let plan = session.sql(recipes::QUANTIZE.sql).await?.create_physical_plan().await?;
        let partitions = plan.properties().partitioning.partition_count();
        if partitions != self.parts.len() {
            let message = internal_datafusion_err!("the plan has {partitions} partitions for {} parts", self.parts.len());
            return Err(message.into());
        }
        Ok(plan)
    }
}

impl Work<'_> {
    /// Fills the gaps in `sums`. Parts are taken in order by whichever thread is free.
    fn all_parts(
        &self,
        threads: usize,
        sums: &mut [Option<Vec<TensorSums>>],
        runtime: &Handle,
    ) -> Result<(), JobError> {
        let open: Vec<usize> = (0..sums.len()).filter(|part| sums[*part].is_none()).collect();
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<(usize, Result<Vec<TensorSums>, JobError>)>> = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.min(open.len()) {
                scope.spawn(|| {
                    while let Some(part) = open.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                        let result = runtime.block_on(self.part(part));
                        let stop = result.is_err();
                        self.failed.fetch_or(stop, Ordering::Relaxed);
                        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((part, result));
                        if stop {
                            break;
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        // The first part that failed by itself, not one that was stopped, is what the user reads.
        results.sort_by_key(|(part, result)| (matches!(result, Err(JobError::Cancelled(_))), *part));
        for (part, result) in results {
            sums[part] = Some(result?);
        }
        if sums.iter().any(Option::is_none) { Err(self.cancelled()) } else { Ok(()) }
    }

    async fn part(&self, part: usize) -> Result<Vec<TensorSums>, JobError> {
        let mut stream = self.plan.execute(part, Arc::clone(&self.context))?;
        let mut writer: PartWriter = self.folder.part_writer(part)?;
        let mut sums = Vec::new();
        let source = self.job.parts[part].bytes;
        let mut rows = 0;
        loop {
            if self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed) {
                return Err(self.cancelled());
            }
            let started = Instant::now();
            let Some(batch) = stream.next().await else { break };
            let batch = batch.map_err(|error| name_the_tensor(self.job, part, error))?;
            writer.write(&batch)?;
            tally::add(&mut sums, &batch, started.elapsed().as_secs_f64())?;
            let share = |rows: usize| source * rows as u64 / self.job.parts[part].rows().max(1) as u64;
            self.progress.advance(share(rows + batch.num_rows()) - share(rows));
            rows += batch.num_rows();
        }
        writer.finish(&sums)?;
        Ok(sums)
    }

    fn cancelled(&self) -> JobError {
        JobError::Cancelled(self.folder.partial().to_owned())
    }
}

fn external(error: std::io::Error) -> JobError {
    JobError::Query(datafusion::common::DataFusionError::IoError(error))
}
