//! `weight_equalization_factors`: equalization by the weights alone.

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "weight_equalization_factors",
    description: "The factors, one per input channel, that bring the sizes of channels nearer to each other: \
                  (m / max(sum_squares, 1e-8 m))^(3/8), where m is the mean of sum_squares; 1 where all are 0. NULL where \
                  sum_squares is NULL.",
    arguments: &[Argument::new(
        "sum_squares",
        Kind::WideRow,
        "the sum of the squares of each input channel's weights, as the aggregate channel_sum_squares gives it",
    )],
    returns: weights_type,
    example: "SELECT weight_equalization_factors([0.0, 256.0, 256.0, 512.0]) AS factors",
    call: |arguments| compute::weight_equalization_factors(&arguments[0]),
};
