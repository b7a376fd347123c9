//! A quantization run: from a model to a folder, through `sql/quantize.sql` or `sql/export.sql`.

pub mod compare;
pub mod local;
mod locate_error;
pub mod measure;
mod new_folder;
pub mod page;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod quantity;
mod query;
pub mod read_back;
mod read_back_pass;
pub mod report;
mod saved_plan;
mod tables;
mod workers;

use std::{path::PathBuf, sync::atomic::AtomicBool};

use datafusion::common::DataFusionError;

use crate::{output::existing::Existing, storage::error::IoError};

/// The settings of a run that change no byte of the result.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// Threads that take parts.
    pub threads: usize,
    /// Resident bytes to stay below: as many threads as fit by estimate take parts.
    pub memory_limit: Option<u64>,
    /// Read the whole model to memory first.
    pub batch: bool,
    /// The treatment of a folder, or of the rest of an interrupted run, that is there already.
    pub existing: Existing,
    /// Read back what was written and verify it.
    pub check: bool,
}

impl RunSettings {
    /// Resident bytes of a run besides what each thread needs: the program, the plan, the headers.
    const BASE_MEMORY: u64 = 128 << 20;
    /// Resident bytes of a thread: the window of the source, its widened rows, the row group being written.
    const THREAD_MEMORY: u64 = 96 << 20;
    /// The number of times that a thread holds its longest row, as it is read, widened and written.
    const ROW_COPIES: u64 = 6;
}

impl Default for RunSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_limit: None, batch: false, existing: Existing::Refuse, check: true }
    }
}

/// Set it, from any thread or signal handler, and a run stops within a batch.
pub type Cancel = AtomicBool;

/// The reason why a run did not finish.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file or a model.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The query.
    #[error(transparent)]
    Query(#[from] DataFusionError),
    /// The run cannot be held below it.
    #[error("a memory limit of {limit} bytes is too small for this run; it needs at least {least}")]
    MemoryLimit {
        /// The limit that was asked for.
        limit: u64,
        /// The need of one thread.
        least: u64,
    },
    /// It was told to stop.
    #[error("interrupted; finished parts are in {} (continue with `resume`, restart with `overwrite`)", .0.display())]
    Cancelled(PathBuf),
    /// It was told to stop before anything was written.
    #[error("interrupted; nothing was written")]
    Interrupted,
}
