//! `quantize`: a row of weights to codes and the parameters that decode them.

use super::{
    argument::{BITS, GROUP_SIZE, IMPORTANCE, METHOD, SYMMETRIC, WEIGHTS},
    options::row_options_and_importance,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::quantized_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quantize",
    description: "Quantizes each row of weights in groups along the row. Gives a struct of the codes and everything \
                  that is needed to decode them (bits, group_size, length, row_scale, codes, scales, zero_points). \
                  NaN and infinity are an error. NULL where any argument but importance is NULL.",
    arguments: &[WEIGHTS, BITS, GROUP_SIZE.optional(), METHOD.optional(), SYMMETRIC.optional(), IMPORTANCE.optional()],
    returns: quantized_type,
    example: "SELECT quantize([0.1, -0.2, 0.3, 0.4], bits => 4, group_size => 4)['codes'] AS codes",
    call: |arguments| match row_options_and_importance(arguments)? {
        (options, None) => compute::quantize(&arguments[0], &options),
        (options, Some(importance)) => compute::quantize_weighted(&arguments[0], importance, &options),
    },
};
