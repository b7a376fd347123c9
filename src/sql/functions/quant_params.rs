//! `quant_params`: the first half of `quantize`, the parameters without the codes.

use super::{
    argument::{BITS, GROUP_SIZE, IMPORTANCE, METHOD, SYMMETRIC, WEIGHTS},
    options::row_options_and_importance,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::params_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quant_params",
    description: "Chooses scales and zero points for each row of weights, as quantize does, and gives them without \
                  the codes. NULL where weights or bits are NULL; any other argument that is NULL is as if left out.",
    arguments: &[WEIGHTS, BITS, GROUP_SIZE.optional(), METHOD.optional(), SYMMETRIC.optional(), IMPORTANCE.optional()],
    returns: params_type,
    example: "SELECT quant_params([0.1, -0.2, 0.3, 0.4], 4, 4, 'minmax', false)['row_scale'] AS row_scale",
    call: |arguments| match row_options_and_importance(arguments)? {
        (options, None) => compute::quant_params(&arguments[0], &options),
        (options, Some(importance)) => compute::quant_params_weighted(&arguments[0], importance, &options),
    },
};
