//! `quantize_step`: a row of weights to multiples of a step, entropy-coded.

use arrow_array::{cast::AsArray, types::Float64Type};

use super::{
    argument::{Argument, WEIGHTS},
    kind::Kind,
    scalar::ScalarFunction,
};
use crate::{compute, types::quantized::quantized_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "quantize_step",
    description: "Quantizes each row of weights to multiples of a step, in codes of variable length, as \
                  quantize does with method 'entropy' and the step that it finds. One step for all rows of a \
                  model loses the least for its bytes. NULL where any argument is NULL.",
    arguments: &[WEIGHTS, Argument::new("step", Kind::Positive, "the distance of neighbouring levels, above 0")],
    returns: quantized_type,
    example: "SELECT mse(w, quantize_step(w, 0.01)) < 0.0001 AS near FROM (SELECT [0.1, -0.2, 0.3] AS w)",
    call: |arguments| {
        let steps = arguments[1].as_primitive::<Float64Type>().iter();
        let steps: Vec<_> = steps.map(|step| step.map(|step| step as f32)).collect();
        compute::quantize_step(&arguments[0], &steps)
    },
};
