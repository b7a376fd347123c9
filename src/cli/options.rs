//! Options that several commands share.

use tokio::runtime::{Builder, Runtime};

use super::CliError;
pub use crate::sql::memory::parse_size as bytes;

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

/// Parses a number that is neither NaN nor infinite.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if f64::is_finite(number) => Ok(number),
        _ => Err(format!("must be a number, not '{text}'")),
    }
}

/// Parses a number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match finite(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err(format!("must be a number above 0, not '{text}'")),
    }
}

/// A runtime with as many worker threads as asked for, one per core by default.
pub fn runtime(threads: Option<usize>) -> Result<Runtime, CliError> {
    Ok(Builder::new_multi_thread().worker_threads(threads.unwrap_or_else(cores)).enable_all().build()?)
}
