//! `hessian_factor`: what `gptq` needs to know of a layer's inputs.

use arrow_array::{Array, cast::AsArray, types::Float64Type};

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{compute, types::factor::factor_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "hessian_factor",
    description: "The upper triangular factor U of the damped inverse of a Hessian H, U'U = (H + damping * mean(diag H))^-1 \
                  (arXiv:2210.17323), with what it took: a struct of damping, dead_channels and factor. A channel that was \
                  zero throughout counts as the mean one. Where H is not positive definite, ten times the damping is \
                  tried, up to a thousand times; NULL where that does not do either, or where any argument is NULL.",
    arguments: &[
        Argument::new("hessian", Kind::WideRow, "an upper triangle, as the aggregate hessian gives it"),
        Argument::new(
            "damping",
            Kind::Positive,
            "the share of the mean diagonal that is added to the diagonal; 0.01 when left out",
        )
        .optional(),
    ],
    returns: factor_type,
    example: "SELECT hessian_factor([1.0, 0.5, 1.0], 0.01)['damping'] AS damping",
    call: |arguments| {
        let damping = match arguments.get(1) {
            Some(column) => column.as_primitive::<Float64Type>().iter().collect(),
            None => vec![Some(compute::DAMPING); arguments[0].len()],
        };
        compute::hessian_factor(&arguments[0], &damping)
    },
};
