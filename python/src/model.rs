//! `quantize_model`: a run of a spec, with a callable for its progress.

use std::{
    convert::Infallible,
    ffi::OsString,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
};

use arrow_array::{RecordBatch, StructArray};
use arrow_quant::{
    cli,
    model::pipeline::component,
    output::existing::{Existing, ExistingFlags},
    plan::{profile::Profile, spec::Spec},
    run::{
        Cancel, RunError, RunSettings, page,
        pipeline::{PlannedPipeline, prefixed},
        plan::Plan,
        progress::{Pass, Progress},
        report::summary::Summary,
    },
    storage::error::IoError,
    types::report::report_schema,
};
use bytesize::ByteSize;
use pyo3::{prelude::*, types::PyDict};
use pyo3_arrow::PyRecordBatch;
use pythonize::Depythonizer;
use serde::Deserialize;

use crate::{
    capsule::Array,
    error::{Kind, of_run, spelled},
    reader::table_field,
    runtime::PATIENCE,
};

/// The options of Python's `quantize_model` beside those of a [`Spec`].
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    profile: Option<String>,
    component: Option<String>,
    threads: Option<usize>,
    memory_limit: Option<ByteSize>,
    batch: bool,
    existing: ExistingFlags,
    no_check: bool,
    dry_run: bool,
}

/// A run: what, from where, whereto.
struct Run {
    spec: Spec,
    settings: RunSettings,
    model: PathBuf,
    component: Option<String>,
    /// `None` means a dry run.
    output: Option<PathBuf>,
}

/// The outcome of a run.
enum Outcome {
    Planned(RecordBatch),
    Done { by_gptq: usize, summary: Box<Summary>, output: PathBuf },
}

impl Run {
    fn new(model: PathBuf, output: Option<PathBuf>, spec: Spec, settings: Settings) -> Result<Self, String> {
        let existing = settings.existing.existing()?;
        if settings.dry_run && existing != Existing::Refuse {
            return Err("`dry_run` cannot be used with `resume` or `overwrite`: it writes nothing".to_owned());
        }
        if output.is_none() && !settings.dry_run {
            return Err("`output` is missing".to_owned());
        }
        if settings.threads.is_some_and(|threads| !(1..=4096).contains(&threads)) {
            return Err("`threads` must be 1 to 4096".to_owned());
        }
        let spec = match settings.profile {
            Some(name) => spec.with_profile(name.parse::<Profile>().map_err(|error| format!("`profile`: {error}"))?),
            None => spec,
        };
        spec.check().map_err(|error| error.to_string())?;
        let defaults = RunSettings::default();
        let run = RunSettings {
            threads: settings.threads.unwrap_or(defaults.threads),
            memory_limit: settings.memory_limit.map(|limit| limit.as_u64()),
            batch: settings.batch,
            existing,
            check: !settings.no_check,
        };
        let component = settings.component;
        Ok(Self { spec, settings: run, model, component, output: output.filter(|_| !settings.dry_run) })
    }

    fn run(self, progress: &dyn Progress, cancel: &Cancel) -> Result<Outcome, RunError> {
        let Self { spec, settings, mut model, component: part, output } = self;
        if let Some(part) = part {
            model = component(&model, &part)?;
        } else if let Some(pipeline) =
            PlannedPipeline::new(spec.clone(), &model, output.as_deref(), &settings, progress, cancel)?
        {
            let Some(output) = output else {
                let parts = pipeline.parts().iter().map(|(name, part)| Ok((format!("{name}/"), part.table()?)));
                let parts = parts.collect::<Result<Vec<_>, RunError>>()?;
                return Ok(Outcome::Planned(
                    prefixed(&parts)?.unwrap_or_else(|| RecordBatch::new_empty(report_schema())),
                ));
            };
            let summary = Box::new(pipeline.run(&output, &settings, progress, cancel)?);
            return Ok(Outcome::Done { by_gptq: 0, summary, output });
        }
        let planned = Plan::new(spec, &model, output.as_deref(), &settings, progress, cancel)?;
        let Some(output) = output else { return Ok(Outcome::Planned(planned.table()?)) };
        let summary = Box::new(planned.run(&output, &settings, progress, cancel)?);
        Ok(Outcome::Done { by_gptq: planned.by_gptq(), summary, output })
    }
}

/// A pass, the bytes of it that are done, and all that there are; none before the first.
type Counter = Mutex<Option<(Pass, u64, u64)>>;

/// Counts what is done, and waits at the ends of a pass until Python has been told of them: however short it is, what
/// progress raises at its start stops it.
struct Teller {
    counter: Arc<Counter>,
    ends: SyncSender<SyncSender<Infallible>>,
}

impl Teller {
    fn count(&self, change: impl FnOnce(&mut Option<(Pass, u64, u64)>)) {
        change(&mut self.counter.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wait(&self) {
        let (told, waits) = mpsc::sync_channel(0);
        // Nobody listens after an error; `told` is never sent to, but let go of.
        if self.ends.send(told).is_ok() {
            let Err(_) = waits.recv();
        }
    }
}

impl Progress for Teller {
    fn start(&self, pass: Pass, total: u64) {
        self.count(|now| *now = Some((pass, 0, total)));
        self.wait();
    }

    fn advance(&self, bytes: u64) {
        self.count(|now| now.iter_mut().for_each(|(_, done, _)| *done += bytes));
    }

    fn finish(&self) {
        self.wait();
    }
}

/// Quantizes a model into a folder. `spec` holds the options that change the result, `settings` the others.
/// `progress(done, total, pass)`, in bytes of the source that the pass of that name counts, is called by the thread that
/// called this; what it raises, and Ctrl-C, stops the run.
#[pyfunction]
pub fn quantize_model<'py>(
    py: Python<'py>,
    model: PathBuf,
    output: Option<PathBuf>,
    spec: &Bound<'py, PyDict>,
    settings: &Bound<'py, PyDict>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let refuse = |problem: String| Kind::Argument.exception(&spelled(&problem));
    let spec = Spec::from_deserializer(&mut Depythonizer::from_object(spec));
    let spec = spec.map_err(|error| refuse(error.to_string()))?;
    let settings = serde_path_to_error::deserialize(&mut Depythonizer::from_object(settings));
    let settings = settings.map_err(|error| {
        let option = error.path().iter().next_back().map(ToString::to_string).unwrap_or_default();
        refuse(format!("`{option}`: {}", error.inner()))
    })?;
    let run = Run::new(model, output, spec, settings).map_err(refuse)?;
    let counter: Arc<Counter> = Arc::default();
    let cancel = Arc::new(Cancel::new(false));
    let (ends, ended) = mpsc::sync_channel(0);
    let worker = {
        let (teller, cancel) = (Teller { counter: Arc::clone(&counter), ends }, Arc::clone(&cancel));
        thread::Builder::new().spawn(move || run.run(&teller, &cancel))
    };
    let worker = worker.map_err(|error| of_run(&IoError::Threads(error).into()))?;
    let mut told = None;
    let mut tell = |py: Python<'_>| {
        let now = *counter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((pass, done, total)) = now
            && let Some(progress) = &progress
            && total > 0
            && told != now
        {
            told = now;
            progress.call1(py, (done, total, pass.to_string()))?;
        }
        py.check_signals()
    };
    let result: PyResult<_> = py.detach(move || {
        loop {
            let waiting = match ended.recv_timeout(PATIENCE) {
                Ok(waiting) => Some(waiting),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            Python::attach(&mut tell).inspect_err(|_| cancel.store(true, Ordering::Relaxed))?;
            drop(waiting);
        }
        Ok(tell)
    });
    let outcome = py.detach(|| worker.join());
    let mut tell = result?;
    let outcome = outcome.map_err(|_| Kind::Other.exception("the run ended with a panic"))?;
    let outcome = outcome.map_err(|error| of_run(&error))?;
    tell(py)?;
    describe(py, outcome)
}

/// Returns the outcome as a dict: `table`, an Arrow table of one row per tensor, and the figures that the command prints.
fn describe(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyDict>> {
    let described = PyDict::new(py);
    let (table, figures) = match outcome {
        Outcome::Planned(table) => (table, None),
        Outcome::Done { by_gptq, summary, output } => {
            let figures = summary.figures(by_gptq, &output);
            (summary.report, Some(figures))
        }
    };
    let field = table_field(&table.schema());
    described.set_item("table", Py::new(py, Array::new(Arc::new(StructArray::from(table)), field))?)?;
    described.set_item("summary", figures.map(|figures| figures.to_string()))?;
    Ok(described)
}

/// Returns the report of a run as HTML, for a notebook. `table` is an Arrow table with the columns of a report.
#[pyfunction]
pub fn report_section(py: Python<'_>, table: PyRecordBatch) -> PyResult<String> {
    let report = table.into_inner();
    py.detach(|| page::report_section(&report)).map_err(|error| of_run(&error.into()))
}

/// Returns the names of the options of a [`Spec`].
#[pyfunction]
pub fn spec_fields() -> Vec<&'static str> {
    Spec::FIELDS.to_vec()
}

/// Runs the program `arrow-quant`; gives its exit code.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cli::run(arguments))
}
