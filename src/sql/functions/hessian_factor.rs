//! `hessian_factor`: what `gptq` needs to know of a layer's inputs.

use arrow_array::{Array, cast::AsArray, types::Float64Type};

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{compute, types::factor::factor_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "hessian_factor",
    description: "The upper triangular factor U of the damped inverse of a Hessian H, U'U = (H + damping * mean(diag H))^-1 \
                  (arXiv:2210.17323), with what it took: a struct of damping, dead_channels and factor. A channel that was \
                  zero throughout counts as the mean one. Where H is not positive definite, ten times the damping is \
                  tried, up to a thousand times; NULL where that does not do either, or where the Hessian is NULL.",
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
        let given = |row: usize| arguments.get(1).filter(|column| column.is_valid(row));
        let damping = (0..arguments[0].len()).map(|row| {
            Some(given(row).map_or(compute::DAMPING, |column| column.as_primitive::<Float64Type>().value(row)))
        });
        let damping: Vec<Option<f64>> = damping.collect();
        compute::hessian_factor(&arguments[0], &damping)
    },
};
