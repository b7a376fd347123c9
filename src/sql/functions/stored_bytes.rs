//! `stored_bytes`: the bytes that a quantized value takes.

use std::sync::Arc;

use arrow_schema::DataType;

use super::{argument::QUANTIZED, scalar::ScalarFunction};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "stored_bytes",
    description: "The bytes that a quantized value takes: codes, scales, zero points and the row's scale; of an entropy-coded \
                  one the codes and 2 bytes, about what parts take for its length and its step. NULL where the value is NULL.",
    arguments: &[QUANTIZED],
    returns: || DataType::Int64,
    example: "SELECT stored_bytes(quantize([0.1, -0.2, 0.3, 0.4], 4)) AS bytes",
    call: |arguments| Ok(Arc::new(compute::stored_bytes(&arguments[0])?)),
};
