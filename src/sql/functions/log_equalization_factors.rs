//! `log_equalization_factors`: equalization by the activations alone.

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{compute, types::weights::weights_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "log_equalization_factors",
    description: "The factors of log equalization (arXiv:2308.15987), one per input channel: \
                  max(act_absmax / log2(2 + act_absmax), 1e-5), and where act_absmax is 0 the \
                  geometric mean of the others (1 where there are none). NULL where act_absmax is NULL.",
    arguments: &[Argument::new("act_absmax", Kind::Row, "the largest magnitude of each input channel's activations")],
    returns: weights_type,
    example: "SELECT log_equalization_factors([6.0, 2.0]) AS factors",
    call: |arguments| compute::log_equalization_factors(&arguments[0]),
};
