//! The functions: one list, which registration, documentation, other languages and the tests walk.

pub(super) mod argument;
mod call;
mod channel;
mod coerce;
pub mod error;
mod kind;
mod options;
mod scalar;

mod activation_params;
mod codes;
mod cosine_similarity;
mod decode_as;
mod dequantize;
mod encode_as;
mod equalization_factors;
mod equalize;
mod error_stats;
mod gptq;
mod hessian;
mod hessian_factor;
mod log_equalization_factors;
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

use std::sync::Arc;

use datafusion::{
    common::Result,
    execution::memory_pool::MemoryPool,
    logical_expr::{AggregateUDF, ScalarUDF},
};

pub use argument::Argument;
pub use call::{Call, Given};
pub use kind::Kind;

/// Every scalar function. A function that is added here is everywhere.
const SCALARS: &[scalar::ScalarFunction] = &[
    quantize::FUNCTION,
    quantize_step::FUNCTION,
    dequantize::FUNCTION,
    quant_params::FUNCTION,
    quantize_with::FUNCTION,
    scales::FUNCTION,
    zero_points::FUNCTION,
    codes::FUNCTION,
    stored_bytes::FUNCTION,
    cosine_similarity::FUNCTION,
    sqnr::FUNCTION,
    mse::FUNCTION,
    error_stats::FUNCTION,
    equalize::FUNCTION,
    equalization_factors::FUNCTION,
    log_equalization_factors::FUNCTION,
    weight_equalization_factors::FUNCTION,
    time_group::FUNCTION,
    activation_params::FUNCTION,
    encode_as::FUNCTION,
    decode_as::FUNCTION,
    hessian_factor::FUNCTION,
    gptq::FUNCTION,
];

/// Returns every scalar function.
///
/// # Errors
/// Returns an error if a function names two arguments alike.
pub fn scalar_functions() -> Result<Vec<ScalarUDF>> {
    SCALARS.iter().map(|function| function.udf()).collect()
}

/// Returns every aggregate function. Its larger states are reserved from `pool`, where there is one.
pub fn aggregate_functions(pool: Option<&Arc<dyn MemoryPool>>) -> Vec<AggregateUDF> {
    channel::FUNCTIONS.iter().map(channel::udaf).chain([time_edges::udaf(), hessian::udaf(pool)]).collect()
}

/// Returns the name and the arguments of every function, scalars first, in the order of the list.
pub fn signatures() -> Vec<(&'static str, &'static [Argument])> {
    let scalars = SCALARS.iter().map(|function| (function.name, function.arguments));
    scalars.chain(channel::signatures()).chain([time_edges::SIGNATURE, hessian::SIGNATURE]).collect()
}
