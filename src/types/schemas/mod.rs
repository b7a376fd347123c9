//! Arrow schemas: the tables, the fields of their structs, the names of their columns.

pub mod activations;
pub mod equalization;
pub mod error_stats;
pub mod factor;
pub mod output;
pub mod quantized;
pub mod report;
pub mod tensors;
pub mod weights;
