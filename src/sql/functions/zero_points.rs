//! `zero_points`: the code that decodes to zero, of each group.

use super::{argument::QUANTIZED, scalar::ScalarFunction};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "zero_points",
    description: "The code that decodes to zero, one per group; it need not be an integer. 2^(bits-1) where the value is symmetric. NULL where the value is NULL.",
    arguments: &[QUANTIZED],
    returns: weights_type,
    example: "SELECT zero_points(quantize([0.0, 1.5, -3.0, 0.0], 4, 2, 'minmax')) AS zero_points",
    call: |arguments| compute::zero_points(&arguments[0]),
};
