//! `error_stats`: the sums that every error figure is made of.

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{compute, types::error_stats::error_stats_type};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "error_stats",
    description: "The sums that every error figure is made of: dot, a2, b2, err2, max_abs, n. Sum the fields over rows (max_abs by max) to get a tensor's figures. NULL where a row is NULL.",
    arguments: &[
        Argument::new("a", Kind::RowOrQuantized, "the reference: a list of numbers or a quantized value"),
        Argument::new("b", Kind::RowOrQuantized, "what is compared with it: the same number of elements"),
    ],
    returns: error_stats_type,
    example: "SELECT error_stats([1.0, 2.0], [1.0, 2.5])['err2'] AS err2",
    call: |arguments| compute::error_stats(&arguments[0], &arguments[1]),
};
