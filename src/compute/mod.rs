//! Functions of Arrow arrays: array in, array out. No queries, no files.
//!
//! Every function takes the list arrays that [`Rows`] reads, sliced or not, and gives null for null. Rows are independent
//! of each other. Apart from [`quantize_batch`], [`dequantize_batch`] and [`by_blocks`] nothing here starts a thread: who has partitions
//! runs these on each.

mod activation_params;
mod arrays;
mod batch;
mod channel;
mod codes;
mod comfy;
mod cosine_similarity;
mod decode_as;
mod dequantize;
mod encode_as;
mod equalization_factors;
mod equalize;
mod error;
mod error_bound;
mod error_stats;
mod gptq;
mod hessian;
mod hessian_factor;
mod log_equalization_factors;
mod mlx;
mod mse;
mod quant_params;
mod quantize;
mod quantize_step;
mod quantize_with;
mod scales;
mod sqnr;
mod stored_bytes;
mod time_edges;
mod time_group;
mod weight_equalization_factors;
mod zero_points;

pub use activation_params::activation_params;
pub use arrays::entropy_row::EntropyRow;
pub use arrays::options::RowOptions;
pub use arrays::parallel::{by_blocks, memory_size};
pub use arrays::quantized::{ParamsArray, QuantizedArray, QuantizedRow, RowParams};
pub use arrays::rows::Rows;
#[cfg(feature = "io")]
pub(crate) use arrays::rows::finite_absmax;
pub use batch::{dequantize_batch, quantize_batch};
pub use channel::{ChannelAccumulator, ChannelStatistic};
pub use codes::codes;
pub use cosine_similarity::cosine_similarity;
pub use decode_as::{decode_as, decode_row};
pub use dequantize::dequantize;
pub use encode_as::{Encoder, encode_as, encode_as_weighted};
pub use equalization_factors::equalization_factors;
pub use equalize::{equalize, equalize_rows};
pub use error::ComputeError;
pub use error_bound::ErrorBound;
pub use error_stats::error_stats;
pub use gptq::gptq;
pub use hessian::HessianAccumulator;
pub use hessian_factor::{DAMPING, hessian_factor};
pub use log_equalization_factors::log_equalization_factors;
pub use mse::mse;
pub use quant_params::{quant_params, quant_params_weighted};
pub use quantize::{quantize, quantize_weighted};
pub use quantize_step::{quantize_entropy, quantize_step};
pub use quantize_with::quantize_with;
pub use scales::scales;
pub use sqnr::sqnr;
pub use stored_bytes::stored_bytes;
pub use time_edges::TimeEdgesAccumulator;
pub use time_group::time_group;
pub use weight_equalization_factors::weight_equalization_factors;
pub use zero_points::zero_points;
