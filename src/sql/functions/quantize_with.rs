//! `quantize_with`: the second half of `quantize`, the codes for given parameters.

use super::{
    argument::{Argument, BITS, WEIGHTS},
    kind::Kind,
    options::row_bits,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::quantized_type};

const PARAMS: Argument = Argument::new(
    "params",
    Kind::Params,
    "scales and zero points, as quant_params or an estimator of your own gives them",
);

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quantize_with",
    description: "Encodes each row of weights with the parameters given: \
                  quantize_with(w, b, quant_params(w, b, ...)) equals quantize(w, b, ...). \
                  NULL where any argument is NULL.",
    arguments: &[WEIGHTS, BITS, PARAMS],
    returns: quantized_type,
    example: "SELECT quantize_with(w, 4, quant_params(w, 4)) = quantize(w, 4) AS same FROM (SELECT [0.1, -0.2, 0.3] AS w)",
    call: |arguments| compute::quantize_with(&arguments[0], &row_bits(&arguments[1])?, &arguments[2]),
};
