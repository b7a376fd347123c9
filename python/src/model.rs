//! `quantize_model`: the command `arrow-quant quantize`, with a callable for its progress.

use std::{
    convert::Infallible,
    ffi::OsString,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
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

/// Counts what is done, and waits at a start until Python has been told of it: however short the run is, what progress
/// raises there stops it.
struct Teller {
    counter: Arc<Counter>,
    starts: SyncSender<SyncSender<Infallible>>,
}

impl Progress for Teller {
    fn start(&self, total: u64) {
        self.counter.total.store(total, Ordering::Relaxed);
        self.counter.done.store(0, Ordering::Relaxed);
        let (told, waits) = mpsc::sync_channel(0);
        // Nobody listens after an error; `told` is never sent to, but let go of.
        if self.starts.send(told).is_ok() {
            let Err(_) = waits.recv();
        }
    }

    fn advance(&self, bytes: u64) {
        self.counter.done.fetch_add(bytes, Ordering::Relaxed);
    }

    fn finish(&self) {}
}

/// Runs `arrow-quant quantize` with the arguments given. `progress(done, total)`, in bytes of the source, is called by the
/// thread that called this; what it raises, and Ctrl-C, stops the run.
#[pyfunction]
pub fn quantize_model(
    py: Python<'_>,
    arguments: Vec<OsString>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'_, PyDict>> {
    let counter = Arc::new(Counter::default());
    let cancel = Arc::new(Cancel::new(false));
    let (starts, started) = mpsc::sync_channel(0);
    let worker = {
        let (teller, cancel) = (Teller { counter: Arc::clone(&counter), starts }, Arc::clone(&cancel));
        thread::spawn(move || cli::quantize(&arguments, &teller, &cancel))
    };
    let mut told = None;
    let mut tell = |py: Python<'_>| {
        let now = (counter.done.load(Ordering::Relaxed), counter.total.load(Ordering::Relaxed));
        if let Some(progress) = &progress
            && now.1 > 0
            && told != Some(now)
        {
            told = Some(now);
            progress.call1(py, now)?;
        }
        py.check_signals()
    };
    let result: PyResult<_> = py.detach(move || {
        loop {
            let waiting = match started.recv_timeout(PATIENCE) {
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
    let outcome = outcome.map_err(|_| crate::error::Kind::Other.exception("the run ended with a panic"))?;
    let outcome = outcome.map_err(|error| of_command(&error))?;
    tell(py)?;
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
