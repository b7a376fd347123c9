//! `error_stats`: the sums that tensor-wide figures of error are made from.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, StructArray};
use arrow_buffer::NullBuffer;

use super::{ComputeError, arrays::pair::pair_stats};
use crate::types::error_stats::error_stats_fields;

/// Returns the error statistics of each pair of rows, of the type
/// [`error_stats_type`](crate::types::error_stats::error_stats_type). Summed over the rows of a tensor
/// (`max_abs` by max), they give the tensor's figures. Arguments, nulls and errors as in
/// [`cosine_similarity`](super::cosine_similarity).
///
/// # Errors
/// Returns the errors of [`cosine_similarity`](super::cosine_similarity).
pub fn error_stats(a: &dyn Array, b: &dyn Array) -> Result<ArrayRef, ComputeError> {
    let stats = pair_stats(a, b)?;
    let valid: NullBuffer = stats.iter().map(Option::is_some).collect();
    let nulls = (valid.null_count() > 0).then_some(valid);
    let column = |field: fn(&crate::kernels::error_stats::ErrorStats) -> f64| -> ArrayRef {
        Arc::new(stats.iter().map(|stats| stats.as_ref().map(field)).collect::<Float64Array>())
    };
    let columns = vec![
        column(|s| s.dot),
        column(|s| s.a2),
        column(|s| s.b2),
        column(|s| s.err2),
        column(|s| s.max_abs),
        Arc::new(stats.iter().map(|s| s.map(|s| s.n as i64)).collect::<Int64Array>()),
    ];
    Ok(Arc::new(StructArray::try_new(error_stats_fields(), columns, nulls)?))
}
