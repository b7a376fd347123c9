//! Error sums, as the recipes that measure give them: a column for each sum.

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_schema::{DataType, Field};

use crate::types::{
    ErrorSums,
    error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
};

/// Returns the columns.
pub fn error_fields() -> impl Iterator<Item = Field> {
    let sums = [DOT, A2, B2, ERR2, MAX_ABS].map(|name| Field::new(name, DataType::Float64, true));
    sums.into_iter().chain([Field::new(N, DataType::Int64, true)])
}

/// Returns the sums of each row of a batch whose columns from `first` on are those of [`error_fields`]; `None` where nothing was
/// measured.
pub fn error_sums(batch: &RecordBatch, first: usize) -> impl Iterator<Item = Option<ErrorSums>> {
    let sum = |column: usize| batch.column(first + column).as_primitive::<Float64Type>();
    let [dot, a2, b2, err2, max_abs] = [0, 1, 2, 3, 4].map(sum);
    let n = batch.column(first + 5).as_primitive::<Int64Type>();
    (0..batch.num_rows()).map(move |row| {
        n.is_valid(row).then(|| ErrorSums {
            dot: dot.value(row),
            a2: a2.value(row),
            b2: b2.value(row),
            err2: err2.value(row),
            max_abs: max_abs.value(row),
            n: n.value(row) as u64,
        })
    })
}
