//! Options that several commands share.

use tokio::runtime::{Builder, Runtime};

use super::CliError;

/// The cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Parses `--threads`.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("must be 1 to 4096".into()),
    }
}

/// A runtime with as many worker threads as asked for, one per core by default.
pub fn runtime(threads: Option<usize>) -> Result<Runtime, CliError> {
    Ok(Builder::new_multi_thread().worker_threads(threads.unwrap_or_else(cores)).enable_all().build()?)
}
