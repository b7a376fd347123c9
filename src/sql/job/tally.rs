//! What the rows of a part lost and how long they took, added up by tensor in the order of the rows.

use std::collections::HashMap;

use arrow_array::{
    Array, RecordBatch, StructArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use crate::{
    io::output::ErrorSums,
    types::{
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
        weights::NAME,
    },
};

/// The sums of one part.
#[derive(Debug, Default)]
pub struct Tally {
    /// The error sums of each tensor with quantized rows.
    pub errors: HashMap<String, ErrorSums>,
    /// Seconds spent on each tensor.
    pub seconds: HashMap<String, f64>,
}

impl Tally {
    /// Adds the rows of a batch that took `seconds`: its columns `name` and `error`.
    ///
    /// # Errors
    /// When a column is missing.
    pub fn add(&mut self, batch: &RecordBatch, seconds: f64) -> Result<()> {
        let names = column(batch, NAME)?.as_string_view();
        let errors = column(batch, "error")?.as_struct();
        let mut start = 0;
        while start < batch.num_rows() {
            let name = names.value(start);
            let end = (start + 1..batch.num_rows()).find(|row| names.value(*row) != name).unwrap_or(batch.num_rows());
            let share = seconds * (end - start) as f64 / batch.num_rows() as f64;
            *entry(&mut self.seconds, name) += share;
            if errors.is_valid(start) {
                let sum = entry(&mut self.errors, name);
                *sum = add_rows(*sum, errors, start, end)?;
            }
            start = end;
        }
        Ok(())
    }
}

fn entry<'a, V: Default>(map: &'a mut HashMap<String, V>, name: &str) -> &'a mut V {
    map.entry(name.to_owned()).or_default()
}

/// `sum` and the rows `start..end` of `errors`, one after the other.
fn add_rows(mut sum: ErrorSums, errors: &StructArray, start: usize, end: usize) -> Result<ErrorSums> {
    let field = |name: &str| {
        let column = errors.column_by_name(name).ok_or_else(|| missing(name))?;
        Ok::<_, DataFusionError>(column.as_primitive::<Float64Type>().values())
    };
    let (dot, a2, b2, err2, max_abs) = (field(DOT)?, field(A2)?, field(B2)?, field(ERR2)?, field(MAX_ABS)?);
    let n = errors.column_by_name(N).ok_or_else(|| missing(N))?.as_primitive::<Int64Type>().values();
    for row in start..end {
        sum = sum.merge(ErrorSums {
            dot: dot[row],
            a2: a2[row],
            b2: b2[row],
            err2: err2[row],
            max_abs: max_abs[row],
            n: n[row] as u64,
        });
    }
    Ok(sum)
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    Ok(batch.column_by_name(name).ok_or_else(|| missing(name))?)
}

fn missing(name: &str) -> DataFusionError {
    internal_datafusion_err!("the recipe gives no column {name}")
}
