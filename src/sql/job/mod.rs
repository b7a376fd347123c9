//! A quantization run: from a model to a folder, through `sql/quantize.sql` or `sql/export.sql`.

mod activations;
mod check;
mod checked_activations;
mod diagnose;
mod equalize;
mod equalized_inputs;
mod factors;
mod gptq;
mod plan;
mod prepare;
mod progress;
mod reach;
mod run;
mod survey;
mod tables;
mod tally;
mod threads;
mod weight_factors;

use std::{path::PathBuf, sync::atomic::AtomicBool};

use datafusion::common::DataFusionError;

pub use checked_activations::CheckedActivations;
pub use equalized_inputs::EqualizedInputs;
pub use plan::PlannedJob;
pub use prepare::Prepared;
pub use progress::{Pass, Progress};
pub use run::Summary;

use crate::io::{Existing, IoError};

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
}

impl Default for RunSettings {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory_limit: None, batch: false, existing: Existing::Refuse, check: true }
    }
}

/// Set it, from any thread or signal handler, and a run stops within a batch.
pub type Cancel = AtomicBool;

/// Why a run did not finish.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A file or a model.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The query.
    #[error(transparent)]
    Query(#[from] DataFusionError),
    /// The run cannot be held below it.
    #[error("a memory limit of {limit} bytes is too small for this run; it needs at least {least}")]
    MemoryLimit {
        /// What was asked for.
        limit: u64,
        /// What one thread needs.
        least: u64,
    },
    /// It was told to stop.
    #[error("interrupted; finished parts are in {} (continue with `resume`, restart with `overwrite`)", .0.display())]
    Cancelled(PathBuf),
    /// It was told to stop before anything was written.
    #[error("interrupted; nothing was written")]
    Interrupted,
}
