//! `equalize`: a row of weights times a factor per input channel.

use super::{
    argument::{Argument, Kind, WEIGHTS},
    scalar::ScalarFunction,
};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "equalize",
    description: "Multiplies each row of weights by one factor per input channel; the activations are divided by the \
                  same factors. NULL where any argument is NULL.",
    arguments: &[WEIGHTS, Argument::new("factors", Kind::Row, "one factor per element of the row")],
    returns: weights_type,
    example: "SELECT equalize([1.0, 2.0], [0.5, 2.0]) AS weights",
    call: |arguments| compute::equalize(&arguments[0], &arguments[1]),
};
