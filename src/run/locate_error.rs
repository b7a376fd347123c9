//! Names the tensor and the row whose weights made a run fail.

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Float32Type};
use datafusion::common::DataFusionError;

use super::{JobError, error_row::Refused, plan::PlannedJob};
use crate::{
    compute::{ComputeError, dequantize, encode_as, error_stats, fits_blocks, quantize},
    model::part::Part,
    plan::equalization::changes::Equalization,
    sql::error::{innermost, message},
    storage::{dtype::float_of, error::IoError},
    types::{Block, Encoding, Float},
};

/// Returns the error itself, or one that names the place: where a tensor of the part that is quantized, equalized or
/// stored as another type holds NaN or infinity, or a weight of it, as it is or as equalized and rounded, is more than
/// what it is stored as holds.
pub fn name_the_tensor(
    job: &PlannedJob,
    part: &Part,
    equalization: Option<&Equalization>,
    error: DataFusionError,
) -> JobError {
    match first_refused(job, part, equalization) {
        Ok(Some(named)) => named.into(),
        Ok(None) => name_the_part(job, part, error),
        Err(unreadable) => unreadable.into(),
    }
}

/// Does the same as [`name_the_tensor`], for a query over the whole model.
pub fn name_any_tensor(job: &PlannedJob, error: JobError) -> JobError {
    let JobError::Query(query) = error else { return error };
    let named = job.parts.iter().find_map(|part| first_refused(job, part, None).transpose());
    named.map_or_else(|| query.into(), |named| named.unwrap_or_else(|unreadable| unreadable).into())
}

/// Returns the error of a function that refused for another reason, with the tensor that the part begins with.
fn name_the_part(job: &PlannedJob, part: &Part, error: DataFusionError) -> JobError {
    match (innermost(&error), part.runs.first()) {
        (DataFusionError::Execution(_), Some(run)) => {
            let first = &job.model.tensors()[run.tensor].name;
            let problem = format!("in the part that begins with the tensor '{first}': {}", message(&error));
            IoError::file(job.model.folder(), problem).into()
        }
        _ => error.into(),
    }
}

fn first_refused(
    job: &PlannedJob,
    part: &Part,
    equalization: Option<&Equalization>,
) -> Result<Option<IoError>, IoError> {
    for run in &part.runs {
        let tensor = &job.model.tensors()[run.tensor];
        let path = &job.model.file_of(tensor).path;
        let quantized = job.choices[run.tensor].options.is_some();
        let change = equalization.and_then(|equalization| equalization.of(&tensor.name));
        let change = change.map(|change| change.applied(tensor.rows, tensor.row_length)).transpose();
        let change = change.map_err(|problem| IoError::tensor(path, &tensor.name, problem))?;
        let encoding = match &job.export {
            Some(export) => {
                let carried = || change.as_ref().and_then(|_| float_of(tensor.dtype));
                export.tensors[run.tensor].encoding.or_else(|| carried().map(Encoding::Float))
            }
            None => equalization.and_then(|all| job.stored_as(all, run.tensor)).map(Encoding::Float),
        };
        let rounded = job.export.as_ref().and_then(|export| export.tensors[run.tensor].rounded);
        let stored = |weights: &ArrayRef, first: usize| {
            if quantized || change.is_some() || encoding.is_some() {
                // Measures finite rows alone.
                error_stats(weights, weights)?;
            }
            let weights = match &change {
                Some(change) => &change.rows(weights, first)?,
                None => weights,
            };
            match encoding {
                Some(Encoding::Block(block)) => return fit_blocks(weights, block),
                Some(_) => encode_as(weights, &[encoding])?,
                None => return Ok(()),
            };
            // A weight may be more when it is rounded.
            let rounded = rounded.map(|options| dequantize(&quantize(weights, &options.into())?)).transpose()?;
            rounded.map_or(Ok(()), |rounded| encode_as(&rounded, &[encoding]).map(drop))
        };
        let done = match (change.is_some(), rounded.is_some()) {
            (true, true) => "equalized and rounded",
            (false, true) => "rounded",
            _ => "equalized",
        };
        let Some(refused) = Refused::first(&job.model, run, done, stored)? else { continue };
        let problem = match &refused.error {
            ComputeError::TooLarge { float, .. } => {
                let advice = match encoding {
                    Some(Encoding::Float(Float::F16)) if job.spec.format.as_ref() == "safetensors" => {
                        " (`dtype` BF16 has more range)"
                    }
                    Some(Encoding::Block(_)) if refused.as_stored() => " (`exclude` leaves a tensor as it is)",
                    _ => "",
                };
                format!("{refused}, which is beyond what {float} holds{advice}")
            }
            _ if !refused.as_stored() => format!("{refused}; only finite weights are stored"),
            _ if quantized => {
                format!("{refused}; only finite weights are quantized (`exclude` leaves a tensor as it is)")
            }
            _ if change.is_some() => format!("{refused}; only finite weights are equalized"),
            _ => format!("{refused}; only finite weights are stored as another type"),
        };
        return Ok(Some(IoError::tensor(path, &tensor.name, problem)));
    }
    Ok(None)
}

/// Refuses what no block holds, without making the blocks.
fn fit_blocks(weights: &ArrayRef, block: Block) -> Result<(), ComputeError> {
    let rows = weights.as_list::<i32>();
    let mut valid = (0..rows.len()).filter(|row| rows.is_valid(*row));
    valid.try_for_each(|row| fits_blocks(block, rows.value(row).as_primitive::<Float32Type>().values(), row))
}
