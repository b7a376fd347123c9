//! Threads that take parts in order, and stop when one fails.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{Builder, ScopedJoinHandle},
};

use super::{RunError, RunSettings};
use crate::storage::error::IoError;

/// Returns the threads that may take parts of a model of which `loaded` bytes are in memory already and whose longest row has
/// `longest`, below a limit of resident bytes.
///
/// # Errors
/// Returns an error if the limit is too small for one thread.
pub fn threads_within(settings: &RunSettings, loaded: u64, longest: u64) -> Result<usize, RunError> {
    let threads = settings.threads;
    let Some(limit) = settings.memory_limit else { return Ok(threads.max(1)) };
    let base = RunSettings::BASE_MEMORY + loaded;
    let each = RunSettings::THREAD_MEMORY.max(longest.saturating_mul(RunSettings::ROW_COPIES));
    let within = limit.saturating_sub(base) / each;
    if within == 0 {
        return Err(RunError::MemoryLimit { limit, least: base.saturating_add(each) });
    }
    Ok(threads.clamp(1, usize::try_from(within).unwrap_or(usize::MAX)))
}

/// Calls `work` with each part, on as many threads; whichever is free takes the next. What `work` gives goes through
/// `settle` while the same thread works on the part after. The results are in the order of the parts. After a failure
/// `failed` is set, and no more parts are taken.
///
/// # Errors
/// That of the first part that failed by itself, rather than because it was stopped.
pub fn take_parts<T: Send, U: Send>(
    parts: &[usize],
    threads: usize,
    failed: &AtomicBool,
    work: impl Fn(usize) -> Result<T, RunError> + Sync,
    settle: impl Fn(T) -> Result<U, RunError> + Sync,
) -> Result<Vec<(usize, U)>, RunError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<U, RunError>)>> = Mutex::new(Vec::new());
    let finish = |part: usize, result: Result<U, RunError>| {
        failed.fetch_or(result.is_err(), Ordering::Relaxed);
        results.lock().unwrap_or_else(PoisonError::into_inner).push((part, result));
    };
    let (work, settle, finish) = (&work, &settle, &finish);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(parts.len()) {
            let started = Builder::new().spawn_scoped(scope, || {
                let mut settling: Option<ScopedJoinHandle<()>> = None;
                while !failed.load(Ordering::Relaxed)
                    && let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)).copied()
                {
                    let worked = work(part);
                    // One at a time: a disk that is slower than the work holds it up here, not in memory.
                    if let Some(before) = settling.take() {
                        before.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    }
                    match worked {
                        Ok(worked) => match Builder::new().spawn_scoped(scope, move || finish(part, settle(worked))) {
                            Ok(started) => settling = Some(started),
                            Err(error) => finish(part, Err(IoError::Threads(error).into())),
                        },
                        Err(error) => finish(part, Err(error)),
                    }
                }
            });
            if let Err(error) = started {
                finish(usize::MAX, Err(IoError::Threads(error).into()));
                break;
            }
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results
        .sort_by_key(|(part, result)| (matches!(result, Err(RunError::Cancelled(_) | RunError::Interrupted)), *part));
    results.into_iter().map(|(part, result)| Ok((part, result?))).collect()
}
