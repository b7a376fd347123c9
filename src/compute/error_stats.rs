//! `error_stats`: the sums that tensor-wide figures of error are made from.

use std::{ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, StructArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_buffer::NullBuffer;

use super::{ComputeError, arrays::pair::pair_stats};
use crate::types::{
    ErrorSums,
    error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N, error_stats_fields},
};

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
    let column = |field: fn(&ErrorSums) -> f64| -> ArrayRef {
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

impl ErrorSums {
    /// Returns these sums and those of some rows of an array that [`error_stats`](fn@error_stats) gave, one after the other.
    ///
    /// # Errors
    /// Returns [`ComputeError::InvalidArgument`] if it is no such array.
    pub fn add_rows(self, errors: &dyn Array, rows: Range<usize>) -> Result<Self, ComputeError> {
        let wrong = |problem: String| ComputeError::InvalidArgument(problem);
        let errors = errors.as_struct_opt().ok_or_else(|| wrong("the errors are no structs".to_owned()))?;
        let column =
            |name: &str| errors.column_by_name(name).ok_or_else(|| wrong(format!("the errors have no field {name}")));
        let field = |name: &str| {
            let values = column(name)?.as_primitive_opt::<Float64Type>();
            values
                .map(|values| values.values().as_ref())
                .ok_or_else(|| wrong(format!("the field {name} is no Float64")))
        };
        let fields: [&[f64]; 5] = [field(DOT)?, field(A2)?, field(B2)?, field(ERR2)?, field(MAX_ABS)?];
        let n = column(N)?.as_primitive_opt::<Int64Type>();
        let n = n.ok_or_else(|| wrong(format!("the field {N} is no Int64")))?.values();
        Ok(rows.fold(self, |sum, row| {
            let [dot, a2, b2, err2, max_abs] = fields.map(|values| values[row]);
            sum.merge(Self { dot, a2, b2, err2, max_abs, n: n[row] as u64 })
        }))
    }
}
