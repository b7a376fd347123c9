//! Threads take parts: each part is one partition of the plan, written beside its place and renamed when whole.

use std::{
    collections::HashMap,
    future::poll_fn,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Instant,
};

use datafusion::{
    common::{DataFusionError, internal_datafusion_err},
    execution::TaskContext,
    physical_plan::ExecutionPlan,
};
use futures::StreamExt;
use tokio::runtime::Handle;

use super::{
    Cancel, RunError, RunSettings,
    measure::{Survey, prepared::Prepared},
    plan::Plan,
    progress::{Pass, Progress},
    read_back_pass::Written,
    report::{
        merge, note_far_below, note_little_left, peak_memory::peak_resident, report_batch, summary::Summary, totals,
        write_report,
    },
    workers::{take_parts, threads_within},
};
use crate::{
    model::scan::digest_of_rows,
    output::{
        destination::Destination,
        folder::OutputFolder,
        pending_part::{PendingPart, WrittenPart, read_back},
        reads::CHANGED,
        row_writer::RowFiles,
    },
    sql::{
        Session,
        sinks::write_parts::{WritePartsExec, written_part},
        tables::Digests,
        threads::runtime,
    },
    storage::{
        error::IoError,
        folder::manifest::{ACTIVATION_PARAMS, EQUALIZATION, WIDTHS},
    },
};

/// A part that is finished, and the seconds that each tensor took.
type Finished = (WrittenPart, Vec<(String, f64)>);

/// A part that one thread has written.
struct Worked {
    part: usize,
    pending: PendingPart,
    finished: Finished,
}

/// The plan of the query, and where its partitions are written.
struct Work<'a> {
    planned: &'a Plan,
    plan: WritePartsExec,
    /// The digests of the source rows of each part.
    digests: Digests,
    context: Arc<TaskContext>,
    folder: &'a OutputFolder,
    destination: Destination,
    prepared: &'a Prepared,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
    /// True if parts of their own are read back, before they have their names.
    read_back: bool,
    /// Set when one thread fails, so that the others stop.
    failed: AtomicBool,
}

impl Plan {
    /// Quantizes the model into a folder. `progress` is told of every batch; `cancel` stops the run within one.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read or written, or the run was cancelled. No error leaves a
    /// folder at `output` that looks whole.
    pub fn run(
        &self,
        output: &Path,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, RunError> {
        let started = Instant::now();
        let threads = threads_within(settings, self.loaded, self.longest_row())?;
        let runtime = runtime(1)?;
        let session = Session::unlimited(threads)?;
        let prepared = match &self.prepared {
            Some(prepared) => prepared.clone(),
            None => self.prepare(Survey { threads, runtime: runtime.handle(), progress, cancel })?,
        };
        let equalization = prepared.equalization.as_ref();
        let digests: Digests = self.parts.iter().map(|_| OnceLock::new()).collect();
        let plan = runtime.block_on(self.physical_plan(&session, &prepared, Some(&digests)))?;
        let mut folder = self.new_folder(output, settings.existing, equalization)?;

        let resumed_parts = self.parts.len() - folder.unfinished().len();
        let context = session.context().task_ctx();
        let files = match &self.export {
            Some(export) => Some(Arc::new(RowFiles::create(folder.path(), &export.layout, resumed_parts > 0)?)),
            None => None,
        };
        let destination =
            Destination { folder: folder.path().to_owned(), manifest: folder.manifest(), files: files.clone() };
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
            planned: self,
            plan: WritePartsExec::new(plan, self.spec.format.to_string(), Some(destination.clone())),
            digests,
            context,
            folder: &folder,
            destination,
            prepared: &prepared,
            progress,
            cancel,
            read_back,
            failed,
        };
        let finished = work.parts(threads, runtime.handle());
        drop(work);
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
        let mut choices = self.noted(&prepared);
        note_little_left(&mut choices, &reports);
        let far_below = note_far_below(&mut choices, &reports);
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
            far_below,
            share: self.share(),
            totals: totals(&self.model, &self.choices, &reports),
            file_bytes,
            seconds: started.elapsed().as_secs_f64(),
            resumed_parts,
            checked: settings.check,
            peak_memory: peak_resident(),
            prepared,
        })
    }
}

impl Work<'_> {
    /// Writes the parts that are not finished, and checks those that are. They are taken in order by
    /// whichever thread is free; the disk is waited for beside the work.
    fn parts(&self, threads: usize, runtime: &Handle) -> Result<Vec<(usize, Finished)>, RunError> {
        let every: Vec<usize> = (0..self.planned.parts.len()).collect();
        let work = |part: usize| match self.folder.finished(part) {
            Some(written) => self.resume(part, written).map(|()| None),
            None => runtime.block_on(self.part(part)).map(Some),
        };
        let commit = |worked: Option<Worked>| {
            let Some(Worked { part, pending, finished }) = worked else { return Ok(None) };
            self.planned.reads.check_unchanged()?;
            pending.commit()?;
            self.folder.note(part, &finished.0)?;
            Ok(Some(finished))
        };
        let done = take_parts(&every, threads, &self.failed, work, commit)?;
        Ok(done.into_iter().filter_map(|(part, finished)| Some((part, finished?))).collect())
    }

    fn stops(&self) -> bool {
        self.cancel.load(Ordering::Relaxed) || self.failed.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> RunError {
        RunError::Cancelled(self.folder.partial().to_owned())
    }

    /// Returns a callback that reports progress for a part, and returns false to stop.
    fn watch(&self, part: usize) -> impl FnMut(usize) -> bool {
        let source = &self.planned.parts[part];
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
    fn resume(&self, part: usize, written: &WrittenPart) -> Result<(), RunError> {
        let (model, source) = (&self.planned.model, &self.planned.parts[part]);
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
        let format = manifest.part_format().ok_or_else(|| IoError::file(&path, "is no part"))?;
        let whole = read_back(&path, format, &written.reports, self.watch(part))?;
        if whole { Ok(()) } else { Err(self.stopped()) }
    }

    /// Writes one part, and reads it back where it is a file of its own.
    async fn part(&self, part: usize) -> Result<Worked, RunError> {
        let mut stream = self.plan.execute(part, Arc::clone(&self.context))?;
        let (mut watch, mut seen) = (self.watch(part), 0);
        let batch = poll_fn(|context| {
            let polled = stream.poll_next_unpin(context);
            let rows = self.plan.rows_written(part);
            let continues = watch(rows - seen);
            seen = rows;
            if continues || polled.is_ready() { polled.map(Some) } else { Poll::Ready(None) }
        });
        let Some(batch) = batch.await else { return Err(self.stopped()) };
        let batch = batch.ok_or_else(|| internal_datafusion_err!("part {part} was written and gave no rows"))?;
        let batch = match batch {
            Ok(batch) => batch,
            Err(DataFusionError::External(error)) => match error.downcast::<IoError>() {
                Ok(error) => return Err((*error).into()),
                Err(error) => return Err(self.located(part, DataFusionError::External(error)).await),
            },
            Err(error) => return Err(self.located(part, error).await),
        };
        let (mut written, seconds) = written_part(&batch)?;
        if let Some(digest) = self.digests[part].get() {
            written.source.clone_from(digest);
        }
        let pending = self.destination.pending(part)?;
        if self.read_back {
            written.checked = pending.read_back(&written, self.watch(part))?;
            if !written.checked {
                return Err(self.stopped());
            }
        }
        Ok(Worked { part, pending, finished: (written, seconds) })
    }

    async fn located(&self, part: usize, error: DataFusionError) -> RunError {
        let rows = self.planned.parts[part].runs.clone();
        let query = |part| self.planned.try_rows(self.prepared, part);
        self.planned.located(error.into(), rows, self.prepared.equalization.as_ref(), query).await
    }
}
