//! The errors and times of a part's rows, added up by tensor in the order of the rows.

use std::collections::HashMap;

use arrow_array::{Array, RecordBatch, cast::AsArray};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use crate::types::{ErrorSums, weights::NAME};

/// The sums of one part.
#[derive(Debug, Default)]
pub struct PartStatistics {
    /// The error sums of each tensor with quantized rows.
    pub errors: HashMap<String, ErrorSums>,
    /// Seconds spent on each tensor.
    pub seconds: HashMap<String, f64>,
}

impl PartStatistics {
    /// Adds the rows of a batch that took `seconds`: its columns `name` and `error`.
    ///
    /// # Errors
    /// Returns an error if a column is missing.
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
                *sum = sum.add_rows(errors, start..end).map_err(|problem| internal_datafusion_err!("{problem}"))?;
            }
            start = end;
        }
        Ok(())
    }
}

fn entry<'a, V: Default>(map: &'a mut HashMap<String, V>, name: &str) -> &'a mut V {
    map.entry(name.to_owned()).or_default()
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array> {
    Ok(batch.column_by_name(name).ok_or_else(|| missing(name))?)
}

fn missing(name: &str) -> DataFusionError {
    internal_datafusion_err!("the recipe gives no column {name}")
}
