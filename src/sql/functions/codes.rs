//! `codes`: the codes, one byte each.

use super::{argument::QUANTIZED, scalar::ScalarFunction};
use crate::{compute, types::quantized::codes_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "codes",
    description: "The codes, unpacked, one per weight: 0 to 2^bits - 1. NULL where the value is NULL.",
    arguments: &[QUANTIZED],
    returns: codes_type,
    example: "SELECT codes(quantize([0.0, 1.0, 2.0, 3.0], 2, 4, 'minmax')) AS codes",
    call: |arguments| compute::codes(&arguments[0]),
};
