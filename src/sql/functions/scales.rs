//! `scales`: the step of each group.

use super::{argument::QUANTIZED, scalar::ScalarFunction};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "scales",
    description: "The step between neighbouring codes, one per group: row_scale * m(scales[g]). NULL where the value is NULL.",
    arguments: &[QUANTIZED],
    returns: weights_type,
    example: "SELECT scales(quantize([0.0, 1.5, 0.0, 3.0], 4, 2, 'minmax')) AS scales",
    call: |arguments| compute::scales(&arguments[0]),
};
