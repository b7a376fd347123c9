//! Quantize the weights of neural networks to 2, 3, 4 and 8 bits with Arrow kernels and `DataFusion` query plans.
//!
//! The crate's root has what programs call: [`quantize_batch`] and [`dequantize_batch`] for record batches, [`quantize`] and
//! [`dequantize`] for arrays and, with their features, `Model`, `Spec`, `RunSettings` and `Session`. [`compute`] has every other
//! function of arrays, [`kernels`] those of slices, [`types`] the options and schemas.
//!
//! ```
//! use arrow_array::{ListArray, types::Float32Type};
//! use arrow_quant::{Bits, QuantizeOptions, dequantize, quantize};
//!
//! let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.5), Some(-0.25)])]);
//! let quantized = quantize(&weights, &QuantizeOptions::new(Bits::Four).into())?;
//! assert_eq!(dequantize(&quantized)?.len(), 1);
//! # Ok::<(), arrow_quant::ComputeError>(())
//! ```
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
//!
//! The floors above `compute` are public for the program, the Python package and the tests, and hidden here: they may change
//! with any version.

pub mod compute;
pub mod kernels;
pub mod types;

#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "io")]
#[doc(hidden)]
pub mod model;
#[cfg(feature = "io")]
#[doc(hidden)]
pub mod output;
#[cfg(feature = "io")]
#[doc(hidden)]
pub mod plan;
#[cfg(feature = "sql")]
#[doc(hidden)]
pub mod run;
#[cfg(feature = "sql")]
#[doc(hidden)]
pub mod sql;
#[cfg(feature = "io")]
#[doc(hidden)]
pub mod storage;
#[cfg(test)]
mod testing;

pub use compute::{ComputeError, dequantize, dequantize_batch, quantize, quantize_batch};
#[cfg(feature = "io")]
pub use model::Model;
#[cfg(feature = "io")]
pub use plan::spec::Spec;
#[cfg(feature = "sql")]
pub use run::{Cancel, RunError, RunSettings, plan::Plan, report::summary::Summary};
#[cfg(feature = "sql")]
pub use sql::Session;
#[cfg(feature = "io")]
pub use storage::error::IoError;
pub use types::{Bits, GroupSize, Method, OptionsError, QuantizeOptions};
