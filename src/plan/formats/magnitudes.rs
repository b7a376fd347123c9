//! The largest magnitudes of tensors, for formats that must know them before the first row is written.

use arrow_array::{Array, cast::AsArray, types::Float32Type};
use rayon::prelude::*;

use crate::{
    compute::finite_absmax,
    model::{
        Model,
        part::{Run, part_bytes},
        scan::{BATCH_BYTES, rows_of},
        tensor::Tensor,
    },
    plan::selection::Choice,
    storage::error::IoError,
    types::weights::{WEIGHTS, weights_schema},
};

/// Reads some tensors, and returns the largest magnitude of each, in the order of the model's tensors; 0 of the others.
///
/// # Errors
/// Returns an error that names the tensor, the row and the element if a weight is not finite, or what reading gives.
pub fn largest(model: &Model, tensors: &[usize]) -> Result<Vec<f32>, IoError> {
    let mut largest = vec![0f32; model.tensors().len()];
    if tensors.is_empty() {
        return Ok(largest);
    }
    let column = weights_column(model)?;
    let parts = model.parts(Some(tensors), part_bytes(model.total_bytes()));
    let runs: Vec<&Run> = parts.iter().flat_map(|part| &part.runs).collect();
    let found: Vec<f32> = runs.par_iter().map(|run| of_run(model, run, &column)).collect::<Result<_, _>>()?;
    for (run, found) in runs.iter().zip(found) {
        largest[run.tensor] = largest[run.tensor].max(found);
    }
    Ok(largest)
}

/// Returns what a tensor of codes with scales of F16 needs so that these, whose least is 2^-24, cost the codes no more than a bit: the
/// name of the form, and the least that its largest weight may be.
pub fn least_of_half_scales(form: &str, bits: u8) -> (String, f32) {
    (format!("{form} with scales of F16"), f32::exp2(f32::from(bits) - 26.0))
}

/// Keeps the tensors whose weights are too small for the scales of a form. `stored` gives the form of a quantized tensor that has such
/// scales, and the least that its largest weight may be. Of most tensors one row is read.
///
/// # Errors
/// As [`largest`], of the rows that are read.
pub fn keep_small(
    model: &Model,
    choices: &mut [Choice],
    stored: impl Fn(&Tensor, &Choice) -> Option<(String, f32)>,
) -> Result<(), IoError> {
    let forms = model.tensors().iter().zip(&*choices).enumerate();
    let forms: Vec<_> =
        forms.filter_map(|(number, (tensor, choice))| Some((number, stored(tensor, choice)?))).collect();
    let column = weights_column(model)?;
    let small = forms.into_par_iter().map(|(number, (form, least))| {
        let largest = largest_below(model, number, least, &column)?;
        Ok(largest.map(|largest| {
            let note = format!("kept: its largest weight is {largest:.1e}, and {form} needs {least:.1e}");
            (number, note)
        }))
    });
    for (number, note) in small.collect::<Result<Vec<_>, IoError>>()?.into_iter().flatten() {
        choices[number] = Choice { note, ..Choice::default() };
    }
    Ok(())
}

/// Returns the largest magnitude of a tensor where that is above 0 and below a limit. Reads no more than it takes to find one
/// that reaches the limit.
fn largest_below(model: &Model, tensor: usize, limit: f32, column: &[usize]) -> Result<Option<f32>, IoError> {
    let rows = model.tensors()[tensor].rows;
    let mut largest = of_rows(model, Run { tensor, rows: 0..rows.min(1) }, column)?;
    for run in batches(model, &Run { tensor, rows: 1..rows }) {
        if largest >= limit {
            break;
        }
        largest = largest.max(of_rows(model, run, column)?);
    }
    Ok(Some(largest).filter(|largest| *largest > 0.0 && *largest < limit))
}

fn weights_column(model: &Model) -> Result<[usize; 1], IoError> {
    Ok([weights_schema().index_of(WEIGHTS).map_err(IoError::arrow(model.folder()))?])
}

/// Returns the batches in which a run is read.
fn batches(model: &Model, run: &Run) -> impl Iterator<Item = Run> {
    let step = (BATCH_BYTES / model.tensors()[run.tensor].row_cost().max(1)).max(1);
    let (tensor, end) = (run.tensor, run.rows.end);
    run.rows.clone().step_by(step).map(move |start| Run { tensor, rows: start..end.min(start + step) })
}

fn of_run(model: &Model, run: &Run, column: &[usize]) -> Result<f32, IoError> {
    batches(model, run).map(|rows| of_rows(model, rows, column)).try_fold(0f32, |most, found| Ok(most.max(found?)))
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
