//! `equalize`: a row of weights times a factor per input channel.

use arrow_array::{cast::AsArray, types::Int64Type};

use super::{
    argument::{Argument, WEIGHTS},
    kind::Kind,
    scalar::ScalarFunction,
};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "equalize",
    description: "Multiplies each row of weights by one factor per input channel; the activations are divided by the \
                  same factors. Where the factors of the layer after are folded into this one, the row is multiplied by \
                  row_factors[channel] as well, and offsets are added. NULL where weights or factors are NULL, or channel where row_factors are given.",
    arguments: &[
        WEIGHTS,
        Argument::new("factors", Kind::SharedRow, "one factor per element of the row"),
        Argument::new("channel", Kind::Length, "the row's number in its tensor, counted from 0").optional_with_next(),
        Argument::new(
            "row_factors",
            Kind::SharedRow,
            "one factor per row of the tensor, given together with channel; all 1 when both are left out",
        )
        .optional(),
        Argument::new("offsets", Kind::SharedRow, "one number per element of the row; all 0 when left out").optional(),
    ],
    returns: weights_type,
    example: "SELECT equalize([1.0, 2.0], [0.5, 2.0]) AS weights",
    call: |arguments| match arguments {
        [weights, factors, channel, row_factors, rest @ ..] => {
            let (channel, offsets) = (channel.as_primitive::<Int64Type>(), rest.first().map(AsRef::as_ref));
            compute::equalize_rows(weights, factors, channel, row_factors, offsets)
        }
        _ => compute::equalize(&arguments[0], &arguments[1]),
    },
};
