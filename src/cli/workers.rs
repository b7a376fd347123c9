//! The threads that queries run on.

use tokio::runtime::{Builder, Runtime};

use super::{CliError, options};
use crate::storage::error::IoError;

/// Threads for queries, while the thread that waits for them listens for Ctrl-C.
pub struct Workers {
    /// Taken on drop alone.
    queries: Option<Runtime>,
    /// The caller's thread. The runtime of the queries hears signals when one of its threads is idle, which may be never.
    listener: Runtime,
}

impl Workers {
    /// Returns `threads` threads, one per core by default.
    pub fn new(threads: Option<usize>) -> Result<Self, CliError> {
        let listener = Builder::new_current_thread().enable_all().build().map_err(IoError::Threads)?;
        Ok(Self { queries: Some(options::runtime(threads)?), listener })
    }

    /// Runs `work` to its end, or until Ctrl-C.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CliError>> + Send + 'static,
    ) -> Result<T, CliError> {
        let Some(queries) = &self.queries else { return Err(CliError::Failed("the threads have been stopped".into())) };
        let mut task = queries.spawn(work);
        self.listener.block_on(async {
            tokio::select! {
                done = &mut task => match done {
                    Ok(result) => result,
                    Err(error) => Err(CliError::Failed(format!("the query failed unexpectedly: {error}"))),
                },
                _ = tokio::signal::ctrl_c() => {
                    task.abort();
                    Err(CliError::Failed("interrupted".into()))
                }
            }
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // A query that was interrupted ends where it next waits, and the program does not wait for that.
        if let Some(queries) = self.queries.take() {
            queries.shutdown_background();
        }
    }
}
