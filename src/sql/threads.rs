//! The threads of queries, asked for before a library takes them for granted.

use std::{
    io,
    sync::{Mutex, PoisonError},
    thread,
};

use tokio::runtime::{Builder, Runtime};

use crate::storage::{error::IoError, guard::caught};

/// Returns a runtime of so many worker threads.
///
/// # Errors
/// Returns an error if the system refuses a thread, or what else a runtime needs.
pub fn runtime(threads: usize) -> Result<Runtime, IoError> {
    let threads = threads.max(1);
    // Of threads that are refused tokio panics at the first, and goes without the others: what waits for them waits for ever.
    probe(threads + 1).map_err(IoError::Threads)?;
    caught(|| Builder::new_multi_thread().worker_threads(threads).enable_all().build())
        .unwrap_or_else(|words| Err(io::Error::other(words)))
        .map_err(IoError::Threads)
}

/// Checks that the system gives so many threads at once.
fn probe(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = || drop(gate.lock());
        let started: io::Result<Vec<_>> =
            (0..threads).map(|_| thread::Builder::new().spawn_scoped(scope, wait)).collect();
        drop(closed);
        started.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_has_at_least_one_thread() {
        for threads in [0, 1, 3] {
            assert_eq!(runtime(threads).unwrap().metrics().num_workers(), threads.max(1));
        }
    }
}
