//! A quantization run: from a model to a folder, through `sql/quantize.sql`.

mod diagnose;
mod plan;
mod run;
mod tally;

use std::{path::PathBuf, sync::atomic::AtomicBool};

use datafusion::common::DataFusionError;

pub use plan::PlannedJob;
pub use run::Summary;

use crate::io::{Existing, IoError, OutputFormat, Rules};

/// What to quantize, how, and where to.
#[derive(Debug, Clone)]
pub struct Job {
    /// A file, a folder of shards or a diffusers folder.
    pub model: PathBuf,
    /// Which tensors are quantized, and how.
    pub rules: Rules,
    /// Read the whole model to memory first.
    pub batch: bool,
}

/// Where a run writes, and with what.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The folder to make.
    pub output: PathBuf,
    /// The files the weights are written to.
    pub format: OutputFormat,
    /// What happens to a folder, or the rest of an interrupted run, that is there already.
    pub existing: Existing,
    /// Threads that take parts.
    pub threads: usize,
}

/// Is told how far a run is, in bytes of the source, from any thread.
pub trait Progress: Sync {
    /// The bytes that there are to do.
    fn start(&self, total: u64);
    /// More bytes are done.
    fn advance(&self, bytes: u64);
    /// Nothing more will come.
    fn finish(&self);
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
    /// It was told to stop.
    #[error("interrupted; what was finished stands in {}: --resume goes on, --overwrite begins again", .0.display())]
    Cancelled(PathBuf),
}
