//! The error statistics of a row: sums, so that adding them up gives a tensor's figures.

use arrow_schema::{DataType, Field, Fields};

/// `dot`: the sum of `a * b`.
pub const DOT: &str = "dot";
/// `a2`: the sum of `a^2`.
pub const A2: &str = "a2";
/// `b2`: the sum of `b^2`.
pub const B2: &str = "b2";
/// `err2`: the sum of `(a - b)^2`.
pub const ERR2: &str = "err2";
/// `max_abs`: the largest `|a - b|`; to be combined by max.
pub const MAX_ABS: &str = "max_abs";
/// `n`: the number of elements.
pub const N: &str = "n";

/// Returns the fields of the error statistics, in order.
pub fn error_stats_fields() -> Fields {
    let sum = |name| Field::new(name, DataType::Float64, true);
    Fields::from(vec![sum(DOT), sum(A2), sum(B2), sum(ERR2), sum(MAX_ABS), Field::new(N, DataType::Int64, true)])
}

/// Returns the type of the error statistics.
pub fn error_stats_type() -> DataType {
    DataType::Struct(error_stats_fields())
}
