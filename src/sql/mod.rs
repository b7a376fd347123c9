//! Quantization as SQL: functions, tables, settings and recipes for `DataFusion`.

pub mod broadcast_join;
pub mod compare;
pub mod functions;
pub mod job;
pub mod recipes;
pub mod reference;
mod session;
pub mod tables;

pub use job::{Cancel, Destination, Job, JobError, PlannedJob, Progress, Summary};
pub use session::{Session, register_all};
