//! A kernel knows the row of a batch that it refused; a reader wants the tensor. Looked up only after a failure.

use std::sync::Arc;

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float32Type, Int64Type},
};
use datafusion::common::DataFusionError;

use super::{JobError, PlannedJob};
use crate::io::{IoError, Scan, scan::BATCH_BYTES};

/// Columns `name`, `channel` and `weights` of the weights table.
const PROJECTION: [usize; 3] = [0, 5, 6];

/// The error itself, or, where a chosen tensor of the part holds NaN or infinity, one that names the place.
pub fn name_the_tensor(job: &PlannedJob, part: usize, error: DataFusionError) -> JobError {
    match first_nonfinite(job, part) {
        Ok(Some(named)) => named.into(),
        Ok(None) => error.into(),
        Err(unreadable) => unreadable.into(),
    }
}

/// As [`name_the_tensor`], for a query over the whole model.
pub fn name_any_tensor(job: &PlannedJob, error: JobError) -> JobError {
    let JobError::Query(query) = error else { return error };
    let named = (0..job.parts.len()).find_map(|part| first_nonfinite(job, part).transpose());
    named.map_or_else(|| query.into(), |named| named.unwrap_or_else(|unreadable| unreadable).into())
}

fn first_nonfinite(job: &PlannedJob, part: usize) -> Result<Option<IoError>, IoError> {
    for batch in Scan::new(Arc::clone(&job.model), job.parts[part].clone(), PROJECTION.to_vec(), BATCH_BYTES)? {
        let batch = batch?;
        let (names, channels) = (batch.column(0).as_string_view(), batch.column(1).as_primitive::<Int64Type>());
        let weights = batch.column(2).as_list::<i32>();
        for row in (0..batch.num_rows()).filter(|row| weights.is_valid(*row)) {
            let values = weights.value(row);
            let values = values.as_primitive::<Float32Type>().values();
            let Some(element) = values.iter().position(|value| !value.is_finite()) else { continue };
            let name = names.value(row);
            let chosen = job.model.tensors().iter().zip(&job.choices).find(|(tensor, _)| tensor.name == name);
            if let Some((tensor, choice)) = chosen
                && choice.options.is_some()
            {
                let problem = format!(
                    "row {}, element {element} is {}; only finite weights are quantized (--exclude leaves a tensor as it is)",
                    channels.value(row),
                    values[element]
                );
                return Ok(Some(IoError::tensor(&job.model.file_of(tensor).path, name, problem)));
            }
        }
    }
    Ok(None)
}
