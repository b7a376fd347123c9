//! The check after writing: what is read back is compared with the source. It must lie as far from it as was measured
//! when it was written, and no group further than rounding explains.

use std::collections::BTreeMap;

use arrow_array::{ArrayRef, RecordBatch};

use crate::{
    compute::{ComputeError, error_stats},
    model::{
        Model,
        part::{Part, Run},
        scan::{BATCH_BYTES, rows_of},
    },
    plan::{equalization::change::Change, formats::written::Written},
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
/// Returns an error if a tensor is missing, has another shape or other bytes, or cannot be read, or if a group is further
/// from its source than [`ErrorBound`](crate::compute::ErrorBound) allows.
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
        let Some(Written { name, order, change, bound }) = written(run.tensor) else {
            watch((run.rows.len() * tensor.row_bytes()) as u64);
            continue;
        };
        let refuse = |problem: &str| IoError::tensor(output.folder(), &tensor.name, problem);
        let number = output.number_of(name).ok_or_else(|| refuse("is missing from what was written"))?;
        let written = &output.tensors()[number];
        if written.shape != tensor.shape {
            return Err(refuse(&format!("was written with the shape {:?}, not {:?}", written.shape, tensor.shape)));
        }
        let changes = |change: &Change| {
            Ok((change.applied(tensor.rows, tensor.row_length)?, change.back(tensor.rows, tensor.row_length)?))
        };
        let changes = change.map(changes).transpose().map_err(|problem: String| refuse(&problem))?;
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
                let named = |error: ComputeError| refuse(&error.offset(start).to_string());
                if let Some(bound) = bound {
                    let changed = changes.as_ref().map(|(change, _)| change.rows(&a, start)).transpose();
                    let changed = changed.map_err(named)?;
                    bound.check(changed.as_ref().unwrap_or(&a), &b).map_err(named)?;
                }
                if let Some((_, back)) = &changes {
                    b = back.rows(&b, start).map_err(named)?;
                }
                let errors = error_stats(&a, &b).map_err(named)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compute::ErrorBound, storage::dtype::Dtype, testing::models::write};

    #[test]
    fn other_bytes_other_errors_and_errors_without_reason_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let model = |name: &str, weights: &[f32]| {
            let path = place.path().join(name);
            let bytes: Vec<u8> = weights.iter().flat_map(|x| x.to_le_bytes()).collect();
            let tensors: [(&str, Dtype, &[usize], &[u8]); 2] =
                [("fc.weight", Dtype::F32, &[2, 64], &bytes), ("n", Dtype::U8, &[2], &[1, 2])];
            write(&path, &tensors);
            Model::open(&path).unwrap()
        };
        let weights: Vec<f32> = (0..128).map(|i| 1.0 + 0.001 * (i % 9) as f32).collect();
        let near: Vec<f32> = weights.iter().map(|x| x + 0.01).collect();
        let mut lost = near.clone();
        lost[96..].fill(0.0);
        let source = model("source.safetensors", &weights);
        let bound = ErrorBound::of_encoding("int4:g32:symmetric:F32".parse().unwrap(), false);
        let part = &source.parts(None, u64::MAX)[0];
        let report = |name: &str, errors| TensorReport {
            name: name.into(),
            rows: 2,
            bytes_out: 1,
            errors,
            content: String::new(),
        };
        let meant = |errors| vec![report("fc.weight", errors), report("n", None)];
        let names = ["fc.weight", "n"];
        let check = |output: &Model, bound, meant: &[TensorReport]| {
            let written =
                |tensor: usize| Some(Written { name: names[tensor], order: Order::Rows, change: None, bound });
            check_part(&source, output, part, meant, written, |_| true)
        };
        let near = model("near.safetensors", &near);
        let sums = check(&near, bound, &meant(Some(ErrorSums::default()))).unwrap();
        assert!((sums[&0].err2 - 128.0 * 0.0001).abs() < 1e-5);
        check_sums(&near, &meant(Some(sums[&0])), &sums).unwrap();
        let message = check_sums(&near, &meant(Some(ErrorSums::default())), &sums).unwrap_err().to_string();
        assert!(message.contains("'fc.weight'") && message.contains("other weights"), "{message}");
        let message = check(&near, bound, &meant(None)).unwrap_err().to_string();
        assert!(message.contains("'fc.weight'") && message.contains("other bytes"), "{message}");

        let lost = model("lost.safetensors", &lost);
        assert!(check(&lost, None, &meant(Some(ErrorSums::default()))).is_ok());
        let message = check(&lost, bound, &meant(Some(ErrorSums::default()))).unwrap_err().to_string();
        assert!(
            message.contains("'fc.weight': row 1, element 32 begins a group") && message.contains("further away"),
            "{message}"
        );
    }
}
