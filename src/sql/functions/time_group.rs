//! `time_group`: the group that a timestep belongs to.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_schema::DataType;

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::compute;

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "time_group",
    description: "The number of the group that a timestep belongs to, from 0: how many edges are at most t. Timesteps \
                  outside the edges are of the first or the last group. NULL where any argument is NULL.",
    arguments: &[
        Argument::new("t", Kind::Number, "a timestep, in the unit of the edges"),
        Argument::new("edges", Kind::WideRow, "ascending timesteps, as time_edges gives them"),
    ],
    returns: || DataType::Int32,
    example: "SELECT time_group(999, [250.0, 500.0, 750.0]) AS time_group",
    call: |arguments| Ok(Arc::new(compute::time_group(arguments[0].as_primitive(), arguments[1].as_list())?)),
};
