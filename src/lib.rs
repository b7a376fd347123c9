//! Quantize the weights of neural networks to 2, 3, 4 and 8 bits with Arrow kernels and `DataFusion` query plans.
//!
//! The crate is a house of floors; each imports only from those below it:
//!
//! | floor | what it holds | feature |
//! |---|---|---|
//! | [`types`] | plain enums and structs, Arrow schemas | |
//! | [`kernels`] | `&[f32]` to `&mut [..]` | |
//! | [`compute`] | `&dyn Array` to `ArrayRef`, `RecordBatch` to `RecordBatch` | |
//! | `storage` | containers on disk: safetensors, GGUF, the files of an output folder | `io` |
//! | `model` | a checkpoint as rows: its tensors, and batches of the weights table | `io` |
//! | `plan` | what becomes of each tensor; reads headers, no weights | `io` |
//! | `output` | files in the making: parts, rows in place, the folder and its rename | `io` |
//! | `sql` | functions, tables, settings, recipes | `sql` |
//! | `run` | a plan carried out: measured, written, read back, reported, compared | `sql` |
//! | `cli` | the `arrow-quant` program | `cli` |

pub mod compute;
pub mod kernels;
pub mod types;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "io")]
pub mod model;
#[cfg(feature = "io")]
pub mod output;
#[cfg(feature = "io")]
pub mod plan;
#[cfg(feature = "sql")]
pub mod run;
#[cfg(feature = "sql")]
pub mod sql;
#[cfg(feature = "io")]
pub mod storage;
#[cfg(test)]
mod testing;
