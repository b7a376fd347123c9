//! The largest magnitude of each of some tensors: what a scale of all rows is made from.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use arrow_array::{Array, cast::AsArray, types::Float32Type};

use crate::{
    compute::finite_absmax,
    model::{
        Model,
        part::{Run, part_bytes},
        scan::{BATCH_BYTES, rows_of},
    },
    storage::error::IoError,
    types::weights::{WEIGHTS, weights_schema},
};

/// Reads some tensors, and returns the largest magnitude of each, in the order of the model's tensors; 0 of the others.
///
/// # Errors
/// Returns an error that names the tensor, the row and the element if a weight is not finite, or what reading gives.
pub fn largest(model: &Model, tensors: &[usize]) -> Result<Vec<f32>, IoError> {
    let most = Mutex::new(vec![0f32; model.tensors().len()]);
    if tensors.is_empty() {
        return Ok(most.into_inner().unwrap_or_else(PoisonError::into_inner));
    }
    let column = [weights_schema().index_of(WEIGHTS).map_err(IoError::arrow(model.folder()))?];
    let parts = model.parts(Some(tensors), part_bytes(model.total_bytes()));
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<IoError>> = Mutex::new(None);
    let work = || {
        while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            for run in &part.runs {
                let step = (BATCH_BYTES / model.tensors()[run.tensor].row_cost().max(1)).max(1);
                for start in run.rows.clone().step_by(step) {
                    let rows = Run { tensor: run.tensor, rows: start..run.rows.end.min(start + step) };
                    match of_rows(model, rows, &column) {
                        Ok(found) => {
                            let mut most = most.lock().unwrap_or_else(PoisonError::into_inner);
                            most[run.tensor] = most[run.tensor].max(found);
                        }
                        Err(error) => {
                            next.store(parts.len(), Ordering::Relaxed);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                            return;
                        }
                    }
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(most.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

fn of_rows(model: &Model, run: Run, column: &[usize]) -> Result<f32, IoError> {
    let (number, first) = (run.tensor, run.rows.start);
    let batch = rows_of(model, run, column)?;
    let weights = batch.column(0).as_list::<i32>();
    let mut most = 0f32;
    for row in 0..weights.len() {
        let values = weights.value(row);
        let absmax = finite_absmax(values.as_primitive::<Float32Type>().values(), first + row).map_err(|error| {
            let tensor = &model.tensors()[number];
            IoError::tensor(&model.file_of(tensor).path, &tensor.name, error.to_string())
        })?;
        most = most.max(absmax);
    }
    Ok(most)
}
