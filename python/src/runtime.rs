//! The threads that queries and calls run on, as many as cores.

use std::{
    future::Future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use arrow_quant::sql::threads::runtime;
use datafusion::common::{Result, exec_datafusion_err};
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::runtime::Runtime;

use crate::error::Kind;

/// The interval at which a waiting call looks for Ctrl-C.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// The threads of a process: those of queries, and those that calls on arrays share out rows to.
struct Threads {
    process: u32,
    queries: Runtime,
    arrays: ThreadPool,
}

/// Returns the threads of this process, made when they are first needed. After a fork the child has none of its
/// parent's: it makes its own, and leaves the others where they are.
///
/// # Errors
/// Returns an error if the system has no threads left.
fn threads() -> Result<&'static Threads, String> {
    static THREADS: Mutex<Option<&Threads>> = Mutex::new(None);
    let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match *threads {
        Some(threads) if threads.process == process => Ok(threads),
        _ => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let queries = runtime(cores).map_err(|error| error.to_string())?;
            let arrays =
                ThreadPoolBuilder::new().build().map_err(|error| format!("cannot start the threads: {error}"))?;
            Ok(threads.insert(Box::leak(Box::new(Threads { process, queries, arrays }))))
        }
    }
}

/// Does `work`, whose rayon calls use as many threads as there are cores.
///
/// # Errors
/// Returns the errors of `work`, or an error if the system has no threads left.
pub fn on_all_cores<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let threads = threads().map_err(|error| exec_datafusion_err!("{error}"))?;
    threads.arrays.install(work)
}

/// Runs `future` on the threads of queries and waits for it without the interpreter's lock. Ctrl-C ends the wait, as does
/// `cancel`, and the future where it next waits itself.
///
/// # Errors
/// Returns an error if it was cancelled, if a signal handler of Python raised one, or if the future panicked.
pub fn wait<T: Send + 'static>(
    py: Python<'_>,
    cancel: &AtomicBool,
    future: impl Future<Output = T> + Send + 'static,
) -> PyResult<T> {
    let threads = threads().map_err(|error| Kind::Other.exception(&error))?;
    // On another thread, and without the runtime's timers, which it looks at when a thread is idle: a query that computes
    // without a pause would keep this one from looking for signals.
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = threads.queries.spawn(async move {
        // Nobody receives what comes after Ctrl-C.
        drop(sender.send(future.await));
    });
    py.detach(move || {
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) => {
                    Python::attach(|py| py.check_signals()).inspect_err(|_| task.abort())?;
                    if cancel.load(Ordering::Relaxed) {
                        task.abort();
                        return Err(Kind::Query.exception("the query was cancelled"));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Kind::Other.exception("the query ended with a panic"));
                }
            }
        }
    })
}
