//! A kernel knows the row of a batch that it refused; a reader wants the tensor. Looked up only after a failure.

use std::sync::Arc;

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float32Type, Int64Type},
};
use datafusion::common::DataFusionError;

use super::{JobError, PlannedJob};
use crate::{
    io::{IoError, Part, Scan, scan::BATCH_BYTES},
    types::{Encoding, Float},
};

/// The largest number that a half holds.
const HALF_MOST: f32 = 65504.0;

/// Columns `name`, `channel` and `weights` of the weights table.
const PROJECTION: [usize; 3] = [0, 5, 6];

/// The error itself, or, where a chosen tensor of the part holds NaN, infinity or more than its format does, one that
/// names the place.
pub fn name_the_tensor(job: &PlannedJob, part: &Part, error: DataFusionError) -> JobError {
    match first_nonfinite(job, part) {
        Ok(Some(named)) => named.into(),
        Ok(None) => error.into(),
        Err(unreadable) => unreadable.into(),
    }
}

/// As [`name_the_tensor`], for a query over the whole model.
pub fn name_any_tensor(job: &PlannedJob, error: JobError) -> JobError {
    let JobError::Query(query) = error else { return error };
    let named = job.parts.iter().find_map(|part| first_nonfinite(job, part).transpose());
    named.map_or_else(|| query.into(), |named| named.unwrap_or_else(|unreadable| unreadable).into())
}

fn first_nonfinite(job: &PlannedJob, part: &Part) -> Result<Option<IoError>, IoError> {
    for batch in Scan::new(Arc::clone(&job.model), part.clone(), PROJECTION.to_vec(), BATCH_BYTES)? {
        let batch = batch?;
        let (names, channels) = (batch.column(0).as_string_view(), batch.column(1).as_primitive::<Int64Type>());
        let weights = batch.column(2).as_list::<i32>();
        for row in (0..batch.num_rows()).filter(|row| weights.is_valid(*row)) {
            let values = weights.value(row);
            let values = values.as_primitive::<Float32Type>().values();
            let name = names.value(row);
            let wrong = |value: &f32| !value.is_finite() || value.abs() > HALF_MOST;
            let Some(element) = values.iter().position(wrong) else { continue };
            let Some(number) = job.model.tensors().iter().position(|tensor| tensor.name == name) else { continue };
            let tensor = &job.model.tensors()[number];
            let (value, path) = (values[element], &job.model.file_of(tensor).path);
            let encoding = job.export.as_ref().and_then(|export| export.tensors[number].encoding);
            if value.is_finite() {
                let advice = match encoding {
                    Some(Encoding::Float(Float::F16)) => "--dtype BF16 has more range",
                    Some(Encoding::Block(_)) => "--exclude leaves a tensor as it is",
                    _ => continue,
                };
                if let Some(encoding) = encoding {
                    let problem = format!(
                        "row {}, element {element} is {value}, which is beyond what {encoding} holds ({advice})",
                        channels.value(row)
                    );
                    return Ok(Some(IoError::tensor(path, name, problem)));
                }
            } else if job.choices[number].options.is_some() {
                let problem = format!(
                    "row {}, element {element} is {}; only finite weights are quantized (--exclude leaves a tensor as it is)",
                    channels.value(row),
                    value
                );
                return Ok(Some(IoError::tensor(path, name, problem)));
            }
        }
    }
    Ok(None)
}
