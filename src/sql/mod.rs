//! Quantization as SQL: functions, tables, settings and recipes for `DataFusion`.

pub mod broadcast_join;
pub mod compare;
pub mod error;
pub mod functions;
pub mod give_way;
pub mod job;
pub mod keep;
pub mod memory;
pub mod recipes;
pub mod reference;
mod refused;
mod session;
pub mod tables;
mod usable_memory;

pub use job::{Cancel, JobError, Pass, PlannedJob, Prepared, Progress, RunSettings, Summary};
pub use session::{Session, register_all};
