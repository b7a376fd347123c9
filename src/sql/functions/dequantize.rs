//! `dequantize`: a quantized value back to a row of weights.

use super::{argument::QUANTIZED, scalar::ScalarFunction};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "dequantize",
    description: "Decodes each quantized value to a row of weights. NULL where the value is NULL.",
    arguments: &[QUANTIZED],
    returns: weights_type,
    example: "SELECT dequantize(quantize([0.1, -0.2, 0.3, 0.4], 8)) AS weights",
    call: |arguments| compute::dequantize(&arguments[0]),
};
