//! `quantize_model`: the command `arrow-quant quantize`, with a callable for its progress.

use std::{
    convert::Infallible,
    ffi::OsString,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError, SyncSender},
    },
    thread,
};

use arrow_array::StructArray;
use arrow_quant::{
    cli::{self, Outcome},
    sql::{Cancel, Pass, Progress},
};
use pyo3::{prelude::*, types::PyDict};

use crate::{capsule::Array, error::of_command, reader::table_field, runtime::PATIENCE};

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

/// Runs `arrow-quant quantize` with the arguments given. `progress(done, total, pass)`, in bytes of the source that the pass
/// of that name counts, is called by the thread that called this; what it raises, and Ctrl-C, stops the run.
#[pyfunction]
pub fn quantize_model(
    py: Python<'_>,
    arguments: Vec<OsString>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'_, PyDict>> {
    let counter: Arc<Counter> = Arc::default();
    let cancel = Arc::new(Cancel::new(false));
    let (ends, ended) = mpsc::sync_channel(0);
    let worker = {
        let (teller, cancel) = (Teller { counter: Arc::clone(&counter), ends }, Arc::clone(&cancel));
        thread::spawn(move || cli::quantize(&arguments, &teller, &cancel))
    };
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
