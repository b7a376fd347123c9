//! The widths that reach a run's goals: what every tensor loses at each, measured by one scan through
//! `sql/mixed_precision.sql`.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow_array::{
    RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use datafusion::{
    catalog::MemTable,
    common::{DataFusionError, Result, internal_datafusion_err},
};
use tokio::runtime::Builder;

use super::{
    Cancel, JobError, PlannedJob, Progress,
    diagnose::name_the_tensor,
    threads::{take_parts, threads_within},
};
use crate::{
    io::{
        IoError, Part,
        choice::{Goals, Width, candidates_batch},
        output::ErrorSums,
        scan::PART_BYTES,
    },
    sql::{Session, recipes, tables::WeightsTable},
    types::{
        QuantizeOptions,
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
        quantized::BITS,
        weights::NAME,
    },
};

/// The error sums of tensors, by name and bits.
type Sums = HashMap<(String, i64), ErrorSums>;

/// A scan that measures candidates.
struct Survey<'a> {
    job: &'a PlannedJob,
    candidates: RecordBatch,
    parts: Vec<Part>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// Set when one thread fails, so that the others stop.
    failed: AtomicBool,
}

impl PlannedJob {
    /// The same job with the widths that reach the goals. Without goals it stays as it is, and nothing is read.
    ///
    /// # Errors
    /// When weights are not finite, a file cannot be read, the run was cancelled, or the goals cannot be reached: the
    /// message says what can.
    pub fn reach(
        mut self,
        goals: Goals,
        threads: usize,
        memory_limit: Option<u64>,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self, JobError> {
        if !goals.any() {
            return Ok(self);
        }
        if self.export.is_some() {
            let problem = "bits are chosen by measurement for parts alone: other formats have other scales";
            return Err(IoError::Request(problem.to_owned()).into());
        }
        let method = self.job.rules.method();
        let candidates: Vec<_> = self.choices.iter().map(|choice| goals.candidates(choice, method)).collect();
        let measured: Vec<usize> = (0..candidates.len()).filter(|tensor| !candidates[*tensor].is_empty()).collect();
        let survey = Survey {
            candidates: candidates_batch(&self.model, &candidates)?,
            parts: self.model.parts(Some(&measured), PART_BYTES),
            job: &self,
            progress,
            cancel,
            failed: AtomicBool::new(false),
        };
        let loaded = if self.job.batch { self.model.total_bytes() } else { 0 };
        let sums = survey.run(threads_within(memory_limit, threads, loaded)?)?;
        let widths = (self.model.tensors().iter().zip(candidates))
            .map(|(tensor, candidates)| {
                let width = |options: QuantizeOptions| {
                    let errors = sums.get(&(tensor.name.clone(), i64::from(options.bits.get())));
                    let errors = *errors.ok_or_else(|| missing(&tensor.name))?;
                    let bytes = options.row_bytes(tensor.row_length) as u64 * tensor.rows as u64;
                    Ok(Width { options, bytes, errors })
                };
                candidates.into_iter().map(width).collect::<Result<Vec<_>>>()
            })
            .collect::<Result<Vec<_>>>()?;
        self.choices = goals.choose(&self.model, &self.choices, &widths)?;
        self.goals = goals;
        self.widths = Some(widths);
        Ok(self)
    }
}

impl Survey<'_> {
    /// What all parts lose together, added up in their order: the number of threads does not change a bit.
    fn run(&self, threads: usize) -> Result<Sums, JobError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(DataFusionError::IoError)?;
        self.progress.start(self.parts.iter().map(|part| part.bytes).sum());
        let all: Vec<usize> = (0..self.parts.len()).collect();
        let work = |part: usize| runtime.block_on(self.part(&self.parts[part]));
        let found = take_parts(&all, threads, &self.failed, work, Ok);
        self.progress.finish();
        let mut sums = Sums::new();
        for (key, errors) in found?.into_iter().flat_map(|(_, part)| part) {
            let sum = sums.entry(key).or_default();
            *sum = sum.merge(errors);
        }
        Ok(sums)
    }

    /// What the rows of a part lose, added up in their order: its query runs on one thread.
    async fn part(&self, part: &Part) -> Result<Sums, JobError> {
        let session = Session::new(1)?;
        let layers = WeightsTable::new(Arc::clone(&self.job.model)).with_partitions(vec![part.clone()]);
        let candidates = MemTable::try_new(self.candidates.schema(), vec![vec![self.candidates.clone()]])?;
        session.context().register_table("layers", Arc::new(layers))?;
        session.context().register_table("candidates", Arc::new(candidates))?;
        let query = session.sql(recipes::MIXED_PRECISION.sql).await?;
        let batches = tokio::select! {
            batches = query.collect() => batches.map_err(|error| name_the_tensor(self.job, part, error))?,
            () = self.stopped() => return Err(JobError::Interrupted),
        };
        self.progress.advance(part.bytes);
        let mut sums = Sums::new();
        for batch in &batches {
            read_sums(batch, &mut sums)?;
        }
        Ok(sums)
    }

    /// Comes back when the survey is to stop.
    async fn stopped(&self) {
        while !(self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Takes up the rows that the recipe gives.
fn read_sums(batch: &RecordBatch, sums: &mut Sums) -> Result<()> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
    let number = |name: &str| Ok::<_, DataFusionError>(column(name)?.as_primitive::<Float64Type>().values());
    let (names, bits) = (column(NAME)?.as_string_view(), column(BITS)?.as_primitive::<Int64Type>().values());
    let (dot, a2, b2, err2, max_abs) = (number(DOT)?, number(A2)?, number(B2)?, number(ERR2)?, number(MAX_ABS)?);
    let n = column(N)?.as_primitive::<Int64Type>().values();
    for row in 0..batch.num_rows() {
        let errors = ErrorSums {
            dot: dot[row],
            a2: a2[row],
            b2: b2[row],
            err2: err2[row],
            max_abs: max_abs[row],
            n: n[row] as u64,
        };
        sums.insert((names.value(row).to_owned(), bits[row]), errors);
    }
    Ok(())
}

fn missing(what: &str) -> DataFusionError {
    internal_datafusion_err!("the recipe gives no figures for {what}")
}
