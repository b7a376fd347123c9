//! `sqnr`: the signal-to-quantization-noise ratio of a row.

use std::sync::Arc;

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "sqnr",
    description: "The signal-to-quantization-noise ratio in dB: 10 log10(sum a^2 / sum (a-b)^2). Infinity where the rows are equal. NULL where a row is NULL.",
    arguments: &[
        Argument::new("a", Kind::RowOrQuantized, "the reference: a list of numbers or a quantized value"),
        Argument::new("b", Kind::RowOrQuantized, "what is compared with it: the same number of elements"),
    ],
    returns: || arrow_schema::DataType::Float64,
    example: "SELECT sqnr(w, quantize(w, 4)) AS db FROM (SELECT [0.1, -0.2, 0.35, 0.4] AS w)",
    call: |arguments| Ok(Arc::new(compute::sqnr(&arguments[0], &arguments[1])?)),
};
