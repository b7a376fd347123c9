//! The error sums of a part's tensors, added up row by row in the order of the model.

use arrow_array::{Array, RecordBatch, cast::AsArray, types::Float64Type};
use datafusion::common::{Result, internal_datafusion_err};

use crate::{
    io::{TensorSums, stored_bytes},
    types::{
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS},
        weights::NAME,
    },
};

/// Adds the rows of `batch`, whose last column is the error of quantization, to the sums of their tensors.
///
/// Rows of a tensor follow each other, so only the last tensor of `sums` can go on.
pub fn add(sums: &mut Vec<TensorSums>, batch: &RecordBatch, seconds: f64) -> Result<()> {
    let missing = |name: &str| internal_datafusion_err!("the recipe gives no column {name}");
    let names = batch.column_by_name(NAME).ok_or_else(|| missing(NAME))?.as_string_view();
    let errors = batch.column_by_name("error").ok_or_else(|| missing("error"))?.as_struct();
    let column = |name: &str| {
        let values = errors.column_by_name(name).ok_or_else(|| missing(name))?;
        Ok(values.as_primitive::<Float64Type>())
    };
    let (dot, a2, b2, err2, max_abs) = (column(DOT)?, column(A2)?, column(B2)?, column(ERR2)?, column(MAX_ABS)?);
    let bytes = stored_bytes(batch)?;
    for row in 0..batch.num_rows() {
        let name = names.value(row);
        if sums.last().is_none_or(|last| last.name != name) {
            sums.push(TensorSums::new(name));
        }
        if let Some(tensor) = sums.last_mut() {
            tensor.rows += 1;
            tensor.bytes_out += bytes[row];
            tensor.seconds += seconds / batch.num_rows() as f64;
            if errors.is_valid(row) {
                tensor.dot += dot.value(row);
                tensor.a2 += a2.value(row);
                tensor.b2 += b2.value(row);
                tensor.err2 += err2.value(row);
                tensor.max_abs = tensor.max_abs.max(max_abs.value(row));
            }
        }
    }
    Ok(())
}
