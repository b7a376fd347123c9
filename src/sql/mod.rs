//! Quantization as SQL: functions, tables, settings and recipes for `DataFusion`.

pub(crate) mod create_table;
pub mod error;
pub mod functions;
pub mod keep;
pub mod memory;
mod named_arguments;
pub mod optimizer;
mod pass_exec;
pub mod recipes;
pub mod reference;
mod session;
pub mod sinks;
pub mod tables;
pub mod threads;
mod usable_memory;

pub use session::{Session, register_all};
