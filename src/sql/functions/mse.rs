//! `mse`: the mean squared error of a row.

use std::sync::Arc;

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "mse",
    description: "The mean squared error: sum (a-b)^2 / n. NULL where a row is NULL.",
    arguments: &[
        Argument::new("a", Kind::RowOrQuantized, "the reference: a list of numbers or a quantized value"),
        Argument::new("b", Kind::RowOrQuantized, "what is compared with it: the same number of elements"),
    ],
    returns: || arrow_schema::DataType::Float64,
    example: "SELECT mse([1.0, 2.0], [1.0, 2.5]) AS mse",
    call: |arguments| Ok(Arc::new(compute::mse(&arguments[0], &arguments[1])?)),
};
