//! The check after writing: what is read back is compared with the source, and must lie as far from it as was meant.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, RecordBatch};

use crate::{
    compute::error_stats,
    model::{
        Model,
        part::{Part, Run},
        scan::{BATCH_BYTES, rows_of},
    },
    plan::formats::written::Written,
    storage::{error::IoError, folder::tensor_report::TensorReport, row_layout::Order},
    types::{
        ErrorSums,
        weights::{DATA, WEIGHTS, weights_schema},
    },
};

/// Returns the error sums of the rows of a part, read back from `output`, by the number of their tensor in `source`.
///
/// `meant` says for each tensor of `source` what a run reports of it: one without error sums must have the same bytes.
/// `written` says where each tensor of `source` is in the output. `None` means that it is left out. `watch` is told of the source bytes
/// of every few rows, and stops the check with false.
///
/// # Errors
/// Returns an error if a tensor is missing, has another shape or other bytes, or cannot be read.
pub fn check_part<'a>(
    source: &Model,
    output: &Model,
    part: &Part,
    meant: &[TensorReport],
    written: impl Fn(usize) -> Option<Written<'a>>,
    mut watch: impl FnMut(u64) -> bool,
) -> Result<BTreeMap<usize, ErrorSums>, IoError> {
    let mut sums: BTreeMap<usize, ErrorSums> = BTreeMap::new();
    for run in &part.runs {
        let tensor = &source.tensors()[run.tensor];
        let Some(Written { name, order, change }) = written(run.tensor) else {
            watch((run.rows.len() * tensor.row_bytes()) as u64);
            continue;
        };
        let refuse = |problem: &str| IoError::tensor(output.folder(), &tensor.name, problem);
        let number = output.number_of(name).ok_or_else(|| refuse("is missing from what was written"))?;
        let written = &output.tensors()[number];
        if written.shape != tensor.shape {
            return Err(refuse(&format!("was written with the shape {:?}, not {:?}", written.shape, tensor.shape)));
        }
        let back = change.map(|change| change.back(tensor.rows, tensor.row_length)).transpose();
        let back = back.map_err(|problem| refuse(&problem))?;
        let cost = tensor.row_cost().max(written.row_cost()).max(1);
        let together = if matches!(order, Order::Interleaved { .. }) { 1 } else { 1 << 14 };
        let step = (BATCH_BYTES / cost).clamp(1, together);
        for start in run.rows.clone().step_by(step) {
            let rows = start..run.rows.end.min(start + step);
            let bytes = (rows.len() * tensor.row_bytes()) as u64;
            let first = order.position(start);
            let there = Run { tensor: number, rows: first..first + rows.len() };
            let here = Run { tensor: run.tensor, rows: rows.clone() };
            let both = |column| {
                Ok::<_, IoError>((column_of(source, here.clone(), column)?, column_of(output, there.clone(), column)?))
            };
            if meant[run.tensor].errors.is_none() {
                let (a, b) = both(DATA)?;
                if a.as_ref() != b.as_ref() {
                    return Err(refuse("was read back with other bytes than it was written with"));
                }
            } else {
                let (a, mut b) = both(WEIGHTS)?;
                if let Some(back) = &back {
                    b = back.rows(&b, start).map_err(|error| refuse(&error.offset(start).to_string()))?;
                }
                let errors = error_stats(&a, &b).map_err(|error| refuse(&error.offset(start).to_string()))?;
                let sum = sums.entry(run.tensor).or_default();
                *sum = sum.add_rows(&errors, 0..rows.len()).map_err(|problem| refuse(&problem.to_string()))?;
            }
            if !watch(bytes) {
                return Ok(sums);
            }
        }
    }
    Ok(sums)
}

/// Verifies the sums that were read back, added up over the parts in their order.
///
/// # Errors
/// Returns an error if they differ; the message names the first tensor.
pub fn check_sums(output: &Model, meant: &[TensorReport], read: &BTreeMap<usize, ErrorSums>) -> Result<(), IoError> {
    for (number, meant) in meant.iter().enumerate() {
        let Some(sums) = read.get(&number) else { continue };
        if !meant.errors.is_some_and(|meant| meant.is_same(sums)) {
            let problem = "was read back as other weights than were written";
            return Err(IoError::tensor(output.folder(), &meant.name, problem));
        }
    }
    Ok(())
}

fn column_of(model: &Model, run: Run, column: &str) -> Result<ArrayRef, IoError> {
    let index = weights_schema().index_of(column).map_err(IoError::arrow(model.folder()))?;
    let batch: RecordBatch = rows_of(model, run, &[index])?;
    Ok(batch.column(0).clone())
}
