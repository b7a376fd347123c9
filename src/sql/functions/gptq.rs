//! `gptq`: a row of weights quantized for the least error of its layer's output.

use super::{
    argument::{Argument, BITS, GROUP_SIZE, WEIGHTS},
    kind::Kind,
    options::row_options,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::quantized_type};

const FACTOR: Argument =
    Argument::new("hessian_factor", Kind::Factor, "the factor of the layer's inputs, as hessian_factor gives it");

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "gptq",
    description: "Quantizes each row of weights by GPTQ (arXiv:2210.17323): what rounding one weight loses is made up for by \
                  those after it, as the inputs of the layer allow. Scales and zero points are searched, with the weights \
                  as they are by then. Rows are independent once the factor is known, so that a join of weights with one \
                  factor per layer streams. Gives a quantized value, as quantize does. NULL where any argument but group_size is NULL.",
    arguments: &[WEIGHTS, FACTOR, BITS, GROUP_SIZE.optional()],
    returns: quantized_type,
    example: "SELECT codes(gptq([0.4, -0.2, 0.3], hessian_factor([2.0, 1.0, 0.0, 2.0, 1.0, 2.0]), 2)) AS codes",
    call: |arguments| compute::gptq(&arguments[0], &arguments[1], &row_options(&arguments[2..])?),
};
