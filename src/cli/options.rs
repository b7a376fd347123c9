//! Options that several commands share.

use tokio::runtime::Runtime;

use super::CliError;
use crate::sql::threads;

/// Returns the cores this process may use.
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

/// Returns a runtime with as many worker threads as asked for, one per core by default.
pub fn runtime(count: Option<usize>) -> Result<Runtime, CliError> {
    Ok(threads::runtime(count.unwrap_or_else(cores))?)
}
