//! The runtime that queries run on: one for the process, as many threads as cores.

use std::{
    future::Future,
    sync::{
        LazyLock,
        mpsc::{self, RecvTimeoutError},
    },
    time::Duration,
};

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::error::Kind;

/// How often a waiting call looks for Ctrl-C.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// # Errors
/// When the system has no threads to give.
pub fn runtime() -> PyResult<&'static Runtime> {
    static RUNTIME: LazyLock<std::io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_multi_thread().enable_all().build());
    RUNTIME.as_ref().map_err(|error| Kind::Other.exception(&format!("no runtime: {error}")))
}

/// Runs `future` on the runtime and waits for it without the interpreter's lock. Ctrl-C ends the wait, and the future where
/// it next waits itself.
///
/// # Errors
/// What a signal handler of Python raises, and a panic of the future.
pub fn wait<T: Send + 'static>(py: Python<'_>, future: impl Future<Output = T> + Send + 'static) -> PyResult<T> {
    let runtime = runtime()?;
    // On another thread, and without the runtime's timers, which it looks at when a thread is idle: a query that computes
    // without a pause would keep this one from looking for signals.
    let (sender, receiver) = mpsc::sync_channel(1);
    let task = runtime.spawn(async move {
        // Nobody receives what comes after Ctrl-C.
        drop(sender.send(future.await));
    });
    py.detach(move || {
        loop {
            match receiver.recv_timeout(PATIENCE) {
                Ok(done) => return Ok(done),
                Err(RecvTimeoutError::Timeout) => {
                    Python::attach(|py| py.check_signals()).inspect_err(|_| task.abort())?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Kind::Other.exception("the query ended with a panic"));
                }
            }
        }
    })
}
