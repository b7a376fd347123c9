//! `cosine_similarity`: how alike two rows point.

use std::sync::Arc;

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "cosine_similarity",
    description: "The cosine of the angle between two rows: 1 for rows that point the same way. NULL where a row is NULL.",
    arguments: &[
        Argument::new("a", Kind::RowOrQuantized, "the reference: a list of numbers or a quantized value"),
        Argument::new("b", Kind::RowOrQuantized, "what is compared with it: the same number of elements"),
    ],
    returns: || arrow_schema::DataType::Float64,
    example: "SELECT cosine_similarity([1.0, 2.0], quantize([1.0, 2.0], 4)) AS cosine",
    call: |arguments| Ok(Arc::new(compute::cosine_similarity(&arguments[0], &arguments[1])?)),
};
