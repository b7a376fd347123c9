//! `equalization_factors`: how far each input channel trades range between activations and weights.

use arrow::compute::concat;
use arrow_array::{Array, ArrayRef, cast::AsArray, new_null_array, types::Float64Type};

use super::{argument::Argument, kind::Kind, scalar::ScalarFunction};
use crate::{
    compute::{self, ComputeError},
    types::weights::weights_type,
};

pub const FUNCTION: ScalarFunction = ScalarFunction {
    name: "equalization_factors",
    description: "The SmoothQuant factors (arXiv:2211.10438), one per input channel: \
                  max(act_absmax^alpha / max(weight_absmax, 1e-5)^(1-alpha), 1e-5), and where act_absmax is 0 the \
                  geometric mean of the others (1 where there are none). NULL where any argument is NULL.",
    arguments: &[
        Argument::new("act_absmax", Kind::Row, "the largest magnitude of each input channel's activations"),
        Argument::new("weight_absmax", Kind::Row, "the largest magnitude of each input channel's weights"),
        Argument::new("alpha", Kind::Fraction, "0 leaves the activations alone, 1 the weights"),
    ],
    returns: weights_type,
    example: "SELECT equalization_factors([4.0, 1.0], [1.0, 1.0], 0.5) AS factors",
    call,
};

/// One row at a time: alpha may be a column.
fn call(arguments: &[ArrayRef]) -> Result<ArrayRef, ComputeError> {
    let alphas = arguments[2].as_primitive::<Float64Type>();
    let rows = (0..alphas.len())
        .map(|row| {
            let (act, weight) = (arguments[0].slice(row, 1), arguments[1].slice(row, 1));
            if alphas.is_null(row) {
                return Ok(new_null_array(&weights_type(), 1));
            }
            compute::equalization_factors(&act, &weight, alphas.value(row))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let rows: Vec<_> = rows.iter().map(AsRef::as_ref).collect();
    if rows.is_empty() { Ok(new_null_array(&weights_type(), 0)) } else { Ok(concat(&rows)?) }
}
