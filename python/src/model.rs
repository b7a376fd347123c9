//! `quantize_model`: the command `arrow-quant quantize`, with a callable for its progress.

use std::{
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
};

use arrow_array::StructArray;
use arrow_quant::{
    cli::{self, Outcome},
    sql::{Cancel, Progress},
};
use pyo3::{prelude::*, types::PyDict};

use crate::{capsule::Array, error::of_command, reader::table_field, runtime::PATIENCE};

/// How far the run is, for the thread that tells Python.
#[derive(Default)]
struct Counter {
    total: AtomicU64,
    done: AtomicU64,
}

impl Progress for Counter {
    fn start(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {}
}

/// Tells the caller that the run has ended, in whatever way.
struct Finished {
    finished: Arc<AtomicBool>,
    caller: Thread,
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.finished.store(true, Ordering::Release);
        self.caller.unpark();
    }
}

/// Runs `arrow-quant quantize` with the arguments given. `progress(done, total)`, in bytes of the source, is called by the
/// thread that called this; what it raises, and Ctrl-C, stops the run.
#[pyfunction]
pub fn quantize_model<'py>(
    py: Python<'py>,
    arguments: Vec<OsString>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyDict>> {
    let counter = Arc::new(Counter::default());
    let cancel = Arc::new(Cancel::new(false));
    let finished = Arc::new(AtomicBool::new(false));
    let worker = {
        let (counter, cancel, finished) = (Arc::clone(&counter), Arc::clone(&cancel), Arc::clone(&finished));
        let guard = Finished { finished, caller: thread::current() };
        thread::spawn(move || {
            let _guard = guard;
            cli::quantize(&arguments, &*counter, &cancel)
        })
    };
    let mut told = None;
    let mut tell = |done: u64| {
        let now = (done, counter.total.load(Ordering::Relaxed));
        if let Some(progress) = &progress
            && now.1 > 0
            && told != Some(now)
        {
            told = Some(now);
            progress.call1(now)?;
        }
        Ok(())
    };
    let mut result = Ok(());
    while result.is_ok() && !finished.load(Ordering::Acquire) {
        py.detach(|| thread::park_timeout(PATIENCE));
        result = py.check_signals().and_then(|()| tell(counter.done.load(Ordering::Relaxed)));
    }
    if result.is_err() {
        cancel.store(true, Ordering::Relaxed);
    }
    let outcome = py.detach(|| worker.join());
    result?;
    let outcome = outcome.map_err(|_| crate::error::Kind::Other.exception("the run ended with a panic"))?;
    let outcome = outcome.map_err(|error| of_command(&error))?;
    tell(counter.done.load(Ordering::Relaxed))?;
    describe(py, outcome)
}

/// The outcome as a dict: `table`, an Arrow table of one row per tensor, and the figures that the command prints.
fn describe(py: Python<'_>, outcome: Outcome) -> PyResult<Bound<'_, PyDict>> {
    let described = PyDict::new(py);
    let (table, figures) = match outcome {
        Outcome::Planned(table) => (table, None),
        Outcome::Done { report, summary } => (report, Some(summary)),
    };
    let field = table_field(&table.schema());
    described.set_item("table", Py::new(py, Array::new(Arc::new(StructArray::from(table)), field))?)?;
    described.set_item("summary", figures.map(|figures| figures.to_string()))?;
    Ok(described)
}

/// The options of `arrow-quant quantize`, by their names in Python.
#[pyfunction]
pub fn quantize_options() -> Vec<String> {
    cli::quantize_options()
}

/// Runs the program `arrow-quant`; gives its exit code.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cli::run(arguments))
}
