//! `quantize`: a row of weights to codes and the parameters that decode them.

use super::{
    argument::{BITS, GROUP_SIZE, METHOD, SYMMETRIC, WEIGHTS},
    options::row_options,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::quantized_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quantize",
    description: "Quantizes each row of weights in groups along the row. Gives a struct of the codes and everything \
                  that is needed to decode them (bits, group_size, length, row_scale, codes, scales, zero_points). \
                  NaN and infinity are an error. NULL where any argument is NULL.",
    arguments: &[WEIGHTS, BITS, GROUP_SIZE.optional(), METHOD.optional(), SYMMETRIC.optional()],
    returns: quantized_type,
    example: "SELECT quantize([0.1, -0.2, 0.3, 0.4], bits => 4, group_size => 4)['codes'] AS codes",
    call: |arguments| compute::quantize(&arguments[0], &row_options(&arguments[1..])?),
};
