//! Threads take parts: each part is one partition of the plan, written beside its place and renamed when whole.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use arrow_array::RecordBatch;
use datafusion::{
    catalog::MemTable, common::internal_datafusion_err, execution::TaskContext, physical_plan::ExecutionPlan,
};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{
    Cancel, JobError, RunSettings,
    locate_error::{name_any_tensor, name_the_tensor},
    measure::Survey,
    part_statistics::Tally,
    peak_memory::peak_resident,
    plan::{PlannedJob, recipe},
    prepare::Prepared,
    progress::{Pass, Progress},
    read_back_pass::Written,
    report::{Totals, merge, report_batch, totals, write_report},
    workers::{take_parts, threads_within},
};
use crate::{
    compute::DAMPING,
    model::scan::digest_of_rows,
    output::{
        existing::Existing,
        folder::OutputFolder,
        new_manifest::new_manifest,
        part_writer::PartWriter,
        pending_part::{Unsettled, WrittenPart, read_back},
        reads::CHANGED,
        row_writer::{RowFiles, RowWriter},
    },
    plan::{
        equalization::{
            change::Change,
            changes::Equalization,
            lineage::{Channels, SOURCE_CHANNELS},
        },
        selection::Choice,
    },
    sql::{
        Session,
        tables::{Digests, WeightsTable},
        threads::runtime,
    },
    storage::{
        dtype::float_of,
        error::IoError,
        folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, EQUALIZATION_DIGEST, EQUALIZED_VERSION, REPORT, WIDTHS},
    },
    types::Float,
};

/// What a run made.
#[derive(Debug, Clone)]
pub struct Summary {
    /// One row per tensor, as `report.parquet` holds it.
    pub report: RecordBatch,
    /// The figures over all quantized tensors.
    pub totals: Totals,
    /// The bytes of the files that hold the weights, headers and all, and of the tables that belong to them.
    pub file_bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Parts that an interrupted run had already finished.
    pub resumed_parts: usize,
    /// Whether every tensor was read back and compared with what was meant.
    pub checked: bool,
    /// The peak of this process's resident memory in bytes, mapped pages included, where the system tells.
    pub peak_memory: Option<u64>,
    /// The activation quantizers and factors that were written.
    pub prepared: Prepared,
}

impl Summary {
    /// Returns the figures over all tensors as JSON, as `--json` prints them. `gptq_tensors` is how many GPTQ quantized.
    #[must_use]
    pub fn figures(&self, gptq_tensors: usize, output: &Path) -> serde_json::Value {
        let totals = &self.totals;
        let stats = totals.errors.map(|errors| errors.stats());
        let equalization = self.prepared.equalization.as_ref();
        serde_json::json!({
            "output": output,
            "tensors": totals.tensors,
            "quantized_tensors": totals.quantized_tensors,
            "gptq_tensors": gptq_tensors,
            "quantized_weights": totals.weights,
            "bits_per_weight": totals.bits_per_weight,
            // JSON has no infinity: weights that lost nothing have no ratio.
            "sqnr_db": stats.map(|stats| stats.sqnr()).filter(|db| db.is_finite()),
            "cosine": stats.map(|stats| stats.cosine_similarity()),
            "mse": stats.map(|stats| stats.mse()),
            "max_abs_error": stats.map(|stats| stats.max_abs),
            "bytes_in": totals.bytes_in,
            "bytes_out": totals.bytes_out,
            "file_bytes": self.file_bytes,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "resumed_parts": self.resumed_parts,
            "activation_quantizers": self.prepared.params.as_ref().map(RecordBatch::num_rows),
            "equalized_tensors": equalization.map(|equalization| equalization.folded() + equalization.scaled()),
            "folded_tensors": equalization.map(Equalization::folded),
            "checked": self.checked,
        })
    }
}

/// A part that one thread has written, its number, and the seconds it spent on each tensor.
type Worked<'f> = (usize, Unsettled<'f>, HashMap<String, f64>);

/// The same when the part has its name.
type Finished = (WrittenPart, HashMap<String, f64>);

/// The plan of the query, and where its partitions are written.
struct Work<'a> {
    job: &'a PlannedJob,
    plan: Arc<dyn ExecutionPlan>,
    /// Those of the source rows of each part.
    digests: Digests,
    context: Arc<TaskContext>,
    folder: &'a OutputFolder,
    /// What is changed of the weights.
    equalization: Option<&'a Equalization>,
    /// Where rows are written in place; none: to parts.
    files: Option<&'a RowFiles<'a>>,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// Whether parts of their own are read back, before they have their names.
    read_back: bool,
    /// Set when one thread fails, so that the others stop.
    failed: AtomicBool,
}

impl PlannedJob {
    /// Quantizes the model into a folder. `progress` is told of every batch; `cancel` stops the run within one.
    ///
    /// # Errors
    /// When weights are not finite, a file cannot be read or written, or the run was cancelled. No error leaves a
    /// folder at `output` that looks whole.
    pub fn run(
        &self,
        output: &Path,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, JobError> {
        let started = Instant::now();
        let threads = threads_within(settings, self.loaded)?;
        let runtime = runtime(1)?;
        let session = Session::unlimited(threads)?;
        let prepared = self.prepare(Survey { threads, runtime: runtime.handle(), progress, cancel });
        let prepared = prepared.map_err(|error| name_any_tensor(self, error))?;
        let equalization = prepared.equalization.as_ref();
        let digests: Digests = self.parts.iter().map(|_| OnceLock::new()).collect();
        let plan = runtime.block_on(self.physical_plan(&session, equalization, &digests))?;
        let mut folder = self.folder(output, settings.existing, equalization)?;

        let resumed_parts = self.parts.len() - folder.unfinished().len();
        let context = session.context().task_ctx();
        let files = match &self.export {
            Some(export) => Some(RowFiles::create(folder.path(), &export.layout, resumed_parts > 0)?),
            None => None,
        };
        let failed = AtomicBool::new(false);
        let read_back = settings.check && files.is_none();
        // Parts are read back as they are written, files in a pass of their own.
        progress.start(Pass::Quantize, self.part_bytes() * if read_back { 2 } else { 1 });
        let finished =
            self.parts.iter().enumerate().filter_map(|(part, source)| Some((folder.finished(part)?, source)));
        progress.advance(
            finished.map(|(written, part)| part.bytes * if read_back && written.checked { 2 } else { 1 }).sum(),
        );
        let work = Work {
            job: self,
            plan,
            digests,
            context,
            folder: &folder,
            equalization,
            files: files.as_ref(),
            progress,
            cancel,
            read_back,
            failed,
        };
        let finished = work.parts(threads, runtime.handle());
        progress.finish();
        let mut seconds: HashMap<String, f64> = HashMap::new();
        for (part, (written, spent)) in finished? {
            folder.add(part, written)?;
            for (name, spent) in spent {
                *seconds.entry(name).or_default() += spent;
            }
        }
        let reports = merge(&self.model, folder.reports())?;
        let seconds: Vec<_> = reports.iter().map(|report| seconds.get(&report.name).copied()).collect();
        let choices = self.noted(&prepared);
        let report = report_batch(&self.model, &choices, &reports, &seconds)?;
        write_report(folder.path(), &report)?;
        if let Some(widths) = self.widths_batch()? {
            folder.write(WIDTHS, &widths)?;
        }
        if let Some(params) = &prepared.params {
            folder.write(ACTIVATION_PARAMS, params)?;
        }
        if let Some(equalization) = equalization {
            folder.write(EQUALIZATION, &equalization.batch(folder.path())?)?;
        }
        if let Some(files) = files {
            folder.set_files(files.finish()?)?;
        }
        folder.complete()?;
        if let Some(export) = &self.export
            && settings.check
        {
            let written = Written { export, equalization, folder: &folder, reports: &reports };
            self.check(&written, threads, progress, cancel)?;
        }
        let file_bytes = folder.file_bytes();
        folder.finish()?;
        Ok(Summary {
            report,
            totals: totals(&self.model, &self.choices, &reports),
            file_bytes,
            seconds: started.elapsed().as_secs_f64(),
            resumed_parts,
            checked: settings.check,
            peak_memory: peak_resident(),
            prepared,
        })
    }

    /// The folder to write, with the model's own files in it.
    fn folder(
        &self,
        output: &Path,
        existing: Existing,
        equalization: Option<&Equalization>,
    ) -> Result<OutputFolder, JobError> {
        let mut options = self.spec.recorded().map_err(IoError::from)?;
        if let Some(activations) = &self.activations {
            options.insert("activations".into(), serde_json::json!({ "digest": activations.digest }));
        }
        if let Some(factors) = &self.factors {
            let hessians = serde_json::json!({ "digest": factors.digest, "damping": DAMPING });
            options.insert("hessians".into(), hessians);
        }
        let sql = recipe(&self.spec).sql.to_owned();
        let channels = Channels::of(&self.model)?;
        if let Some(channels) = channels.stored() {
            options.insert(SOURCE_CHANNELS.into(), channels.into());
        }
        if let Some(equalization) = equalization {
            options.insert(EQUALIZATION_DIGEST.into(), equalization.digest().into());
        }
        let copied = self.model.config_files()?;
        let names = self.names(&copied, equalization.is_some());
        let mut manifest = new_manifest(&self.model, &self.parts, self.spec.format, options, sql, names);
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
        folder.check_space(self.bytes_out().sum())?;
        for file in copied {
            folder.copy(&file)?;
        }
        Ok(folder)
    }

    /// The names of all files beside the manifest and the parts, `copied` ones among them, sorted.
    fn names(&self, copied: &[PathBuf], equalized: bool) -> Vec<String> {
        let tables = [
            (REPORT, true),
            (WIDTHS, self.widths.is_some()),
            (ACTIVATION_PARAMS, self.activations.is_some()),
            (EQUALIZATION, equalized),
        ];
        let tables = tables.into_iter().filter(|(_, written)| *written).map(|(name, _)| name.to_owned());
        let copied = copied.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_owned()));
        let layout = self.export.iter().flat_map(|export| export.layout.names()).map(str::to_owned);
        let names: BTreeSet<String> = tables.chain(copied).chain(layout).collect();
        names.into_iter().collect()
    }

    /// One partition per part, in their order.
    async fn physical_plan(
        &self,
        session: &Session,
        equalization: Option<&Equalization>,
        digests: &Digests,
    ) -> Result<Arc<dyn ExecutionPlan>, JobError> {
        let layers = WeightsTable::new(Arc::clone(&self.model)).with_partitions(self.parts.clone());
        let layers = layers.with_digests(Arc::clone(digests));
        let choices = self.choices_batch(equalization)?;
        let choices = MemTable::try_new(choices.schema(), vec![vec![choices]])?;
        session.context().register_table("layers", Arc::new(layers))?;
        session.context().register_table("choices", Arc::new(choices))?;
        if let Some(factors) = &self.factors {
            let factors = MemTable::try_new(factors.table.schema(), vec![vec![factors.table.clone()]])?;
            session.context().register_table("factors", Arc::new(factors))?;
        }
        if let Some(equalization) = equalization {
            let stored_as = |number| self.stored_as(equalization, number).map(|float| float.to_string());
            let changes = equalization.table(&self.model, stored_as)?;
            let changes = MemTable::try_new(changes.schema(), vec![vec![changes]])?;
            session.context().register_table("changes", Arc::new(changes))?;
        }
        let plan = session.sql(recipe(&self.spec).sql).await?.create_physical_plan().await?;
        let partitions = plan.properties().partitioning.partition_count();
        if partitions != self.parts.len() {
            let parts = self.parts.len();
            return Err(internal_datafusion_err!("the plan has {partitions} partitions for {parts} parts").into());
        }
        Ok(plan)
    }
}

impl PlannedJob {
    /// What a tensor that is not quantized is stored as, in parts, where equalization may change it: a norm or a bias with all
    /// the digits that it has then, which take next to nothing more; a matrix, which would take twice as much, as what it was.
    pub(super) fn stored_as(&self, equalization: &Equalization, number: usize) -> Option<Float> {
        if self.is_widened(number) {
            return Some(Float::F32);
        }
        let carried = self.export.is_none() && self.choices[number].options.is_none();
        let tensor = &self.model.tensors()[number];
        if carried && equalization.of(&tensor.name).is_some() { float_of(tensor.dtype) } else { None }
    }

    /// The choices, with what equalization made of each tensor in their notes.
    fn noted(&self, prepared: &Prepared) -> Vec<Choice> {
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

impl Work<'_> {
    /// Writes the parts that are not finished, and checks those that are. They are taken in order by
    /// whichever thread is free; the disk is waited for beside the work.
    fn parts(&self, threads: usize, runtime: &Handle) -> Result<Vec<(usize, Finished)>, JobError> {
        let every: Vec<usize> = (0..self.job.parts.len()).collect();
        let work = |part: usize| match self.folder.finished(part) {
            Some(written) => self.resume(part, written).map(|()| None),
            None => runtime.block_on(self.part(part)).map(Some),
        };
        let settle = |worked: Option<Worked<'_>>| match worked {
            Some((number, part, seconds)) => {
                self.job.reads.check_unchanged()?;
                let written = part.settle()?;
                self.folder.note(number, &written)?;
                Ok(Some((written, seconds)))
            }
            None => Ok(None),
        };
        let done = take_parts(&every, threads, &self.failed, work, settle)?;
        Ok(done.into_iter().filter_map(|(part, finished)| Some((part, finished?))).collect())
    }

    fn stops(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> JobError {
        JobError::Cancelled(self.folder.partial().to_owned())
    }

    /// Told of rows of a part, says how far the run is; gives whether it goes on.
    fn watch(&self, part: usize) -> impl FnMut(usize) -> bool {
        let source = &self.job.parts[part];
        let mut rows = 0;
        move |more| {
            let bytes = |rows: usize| source.bytes * rows as u64 / source.rows().max(1) as u64;
            self.progress.advance(bytes(rows + more) - bytes(rows));
            rows += more;
            !self.stops()
        }
    }

    /// Checks a part that an interrupted run has finished: it was made of the rows that the model has now, and where it is to
    /// be read back and was not, it holds what was written.
    fn resume(&self, part: usize, written: &WrittenPart) -> Result<(), JobError> {
        let (model, source) = (&self.job.model, &self.job.parts[part]);
        // Parts have digests of their own, which reading them checks.
        if model.part_rows().is_none() {
            let digest = digest_of_rows(model, source, || !self.stops())?.ok_or_else(|| self.stopped())?;
            if digest != written.source {
                let mut files: Vec<usize> = source.runs.iter().map(|run| model.tensors()[run.tensor].file()).collect();
                files.dedup();
                let names: Vec<_> = files.into_iter().map(|file| model.files()[file].name.as_str()).collect();
                return Err(IoError::file(&model.folder().join(names.join(", ")), CHANGED).into());
            }
        }
        if written.checked || !self.read_back {
            return Ok(());
        }
        let manifest = self.folder.manifest();
        let path = self.folder.path().join(&manifest.parts[part].file);
        let whole = read_back(&path, manifest.output_format, &written.reports, self.watch(part))?;
        if whole { Ok(()) } else { Err(self.stopped()) }
    }

    async fn part(&self, part: usize) -> Result<Worked<'_>, JobError> {
        let mut stream = self.plan.execute(part, Arc::clone(&self.context))?;
        let mut writer = match self.files {
            Some(files) => Writer::Rows(files.part(self.folder.manifest(), part)?),
            None => Writer::Part(Box::new(PartWriter::create(self.folder.path(), self.folder.manifest(), part)?)),
        };
        let mut tally = Tally::default();
        let mut watch = self.watch(part);
        loop {
            if self.stops() {
                return Err(self.stopped());
            }
            let started = Instant::now();
            let Some(batch) = stream.next().await else { break };
            let batch =
                batch.map_err(|error| name_the_tensor(self.job, &self.job.parts[part], self.equalization, error))?;
            match &mut writer {
                Writer::Rows(rows) => rows.write(&batch)?,
                Writer::Part(part) => part.write(&batch)?,
            }
            tally.add(&batch, started.elapsed().as_secs_f64())?;
            watch(batch.num_rows());
        }
        let mut written = match writer {
            Writer::Rows(rows) => rows.finish(&tally.errors)?,
            Writer::Part(part) => part.finish(&tally.errors)?,
        };
        if let Some(digest) = self.digests[part].get() {
            written.set_source(digest.clone());
        }
        if self.read_back && !written.read_back(self.watch(part))? {
            return Err(self.stopped());
        }
        Ok((part, written, tally.seconds))
    }
}

/// Where the rows of a part go.
enum Writer<'a> {
    Part(Box<PartWriter>),
    Rows(RowWriter<'a>),
}
