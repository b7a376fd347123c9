//! Quantize the weights of neural networks to 2, 3, 4 and 8 bits with Arrow kernels and `DataFusion` query plans.
//!
//! The crate is a stack of layers; each imports only what stands below it:
//!
//! | module | what it maps | feature |
//! |---|---|---|
//! | [`kernels`] | `&[f32]` to `&mut [..]` | |
//! | [`types`] | Arrow schemas, options | |
//! | [`compute`] | `&dyn Array` to `ArrayRef`, `RecordBatch` to `RecordBatch` | |
//! | `io` | bytes on disk to record batches and back | `io` |
//! | `sql` | functions, tables, settings, recipes | `sql` |
//! | `cli` | the `arrow-quant` program | `cli` |

pub mod compute;
pub mod kernels;
pub mod types;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "io")]
pub mod io;
#[cfg(feature = "sql")]
pub mod sql;
