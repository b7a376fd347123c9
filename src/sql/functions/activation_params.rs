//! `activation_params`: the quantizer of a range of activations.

use arrow_array::{BooleanArray, Float64Array, cast::AsArray};

use super::{
    argument::{Argument, SYMMETRIC},
    kind::Kind,
    scalar::ScalarFunction,
};
use crate::{compute, types::activations::activation_params_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "activation_params",
    description: "The uniform quantizer of activations from lo to hi: x = scale * (code - zero_point), codes from 0 to \
                  2^bits - 1. The range is widened to include zero. NULL where any argument but symmetric is NULL.",
    arguments: &[
        Argument::new("lo", Kind::Number, "the least activation"),
        Argument::new("hi", Kind::Number, "the largest activation"),
        Argument::new("bits", Kind::ActivationBits, "bits per code: 2 to 8"),
        SYMMETRIC.optional(),
    ],
    returns: activation_params_type,
    example: "SELECT activation_params(-1.0, 2.0, 8) AS params",
    call: |arguments| {
        let lo: &Float64Array = arguments[0].as_primitive();
        let (hi, bits) = (arguments[1].as_primitive(), arguments[2].as_primitive());
        let given =
            |row: usize| arguments.get(3).is_some_and(|column| column.is_valid(row) && column.as_boolean().value(row));
        let symmetric: BooleanArray = (0..lo.len()).map(|row| Some(given(row))).collect();
        compute::activation_params(lo, hi, bits, &symmetric)
    },
};
