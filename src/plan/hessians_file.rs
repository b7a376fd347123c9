//! Hessians that calibration wrote: checked against the model, and factored as GPTQ needs them.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::Arc,
    thread,
};

use arrow::compute::concat;
use arrow_array::{
    Array, ArrayRef, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};

use crate::{
    compute::{DAMPING, hessian_factor},
    model::Model,
    storage::{
        digest::digest_of,
        error::{IoError, without_row},
        parquet_table,
    },
    types::{
        activations::TOKENS,
        factor::{DAMPING as DAMPING_FIELD, DEAD_CHANNELS, HESSIAN, factors_schema, hessians_schema},
        weights::NAME,
    },
};

/// The factors of a model's layers, made of a file of Hessians.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The digest of the file.
    pub digest: String,
    /// One row per layer, of [`factors_schema`]; the factor is null where no damping made the Hessian positive definite.
    pub table: RecordBatch,
}

impl Factors {
    /// Returns notes on the factoring of each layer's Hessian, for a report: `(name, true if there is a factor, note)`.
    pub fn notes(&self) -> impl Iterator<Item = (&str, bool, String)> {
        let (names, factors) = (self.table.column(0).as_string_view(), self.table.column(1).as_struct());
        (0..factors.len()).map(move |row| {
            let number = |field: &str| factors.column_by_name(field);
            let damping = number(DAMPING_FIELD).map_or(0.0, |all| all.as_primitive::<Float64Type>().value(row));
            let dead = number(DEAD_CHANNELS).map_or(0, |all| all.as_primitive::<Int64Type>().value(row));
            let note = match (factors.is_valid(row), dead) {
                (false, _) => "search: no damping made its Hessian positive definite".to_owned(),
                (true, 0) => format!("GPTQ, damping {damping}"),
                (true, dead) => format!("GPTQ, damping {damping}, {dead} channels without input"),
            };
            (names.value(row), factors.is_valid(row), note)
        })
    }
}

/// One layer's Hessian, and where it stands in the file.
struct Layer {
    row: usize,
    name: String,
    hessian: ArrayRef,
}

/// Reads the Parquet file of Hessians at `path`, holds it against the model, and factors those of the tensors that are
/// `wanted`, as many at a time as there are `threads`.
///
/// # Errors
/// Returns an error if the file cannot be read, lacks a column or has one of another type, or has no rows, or if a row has a
/// null, no tokens, a name that is no matrix of the model or that another row has, another length than the upper
/// triangle of that tensor's input, or a number that is not finite.
pub fn read_factors(
    path: &Path,
    model: &Model,
    wanted: impl Fn(&str) -> bool,
    threads: usize,
) -> Result<Factors, IoError> {
    let schema = hessians_schema();
    let shapes: HashMap<&str, &[usize]> =
        model.tensors().iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect();
    let mut seen = HashSet::new();
    let (mut waiting, mut names, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for (row, batch) in parquet_table::open(path, &schema, "Hessians", 1)?.enumerate() {
        let batch = batch.map_err(IoError::arrow(path))?;
        let layer = layer(path, &batch, row)?;
        let refuse = |problem| Err(IoError::file(path, format!("row {row}: '{}'{problem}", layer.name)));
        let Some([_, inputs]) = shapes.get(layer.name.as_str()) else {
            return refuse(" is no matrix of the model".to_owned());
        };
        let (length, triangle) = (layer.hessian.as_list::<i32>().value(0).len(), inputs * (inputs + 1) / 2);
        if length != triangle {
            return refuse(format!(" has {length} numbers; the upper triangle for {inputs} inputs has {triangle}"));
        }
        if !seen.insert(layer.name.clone()) {
            return refuse(" has a row already".to_owned());
        }
        if wanted(&layer.name) {
            waiting.push(layer);
        }
        if waiting.len() >= threads.max(1) {
            factor_all(path, &mut waiting, &mut names, &mut factors)?;
        }
    }
    factor_all(path, &mut waiting, &mut names, &mut factors)?;
    if seen.is_empty() {
        return Err(IoError::file(path, "has no rows; Hessians have one for each layer"));
    }
    let arrays: Vec<&dyn Array> = factors.iter().map(AsRef::as_ref).collect();
    let schema = factors_schema();
    let table = if arrays.is_empty() {
        RecordBatch::new_empty(schema)
    } else {
        let factors = concat(&arrays).map_err(IoError::arrow(path))?;
        let names = Arc::new(StringViewArray::from_iter_values(names));
        RecordBatch::try_new(schema, vec![names, factors]).map_err(IoError::arrow(path))?
    };
    Ok(Factors { digest: digest_of(path)?.1, table })
}

/// Returns the one row of a batch.
fn layer(path: &Path, batch: &RecordBatch, row: usize) -> Result<Layer, IoError> {
    let schema = hessians_schema();
    let column = |name| parquet_table::column(path, batch, &schema, name);
    let (names, tokens, hessian) = (column(NAME)?, column(TOKENS)?, column(HESSIAN)?);
    let refuse = |problem: String| Err(IoError::file(path, format!("row {row}: {problem}")));
    if names.is_null(0) {
        return refuse(format!("{NAME} is null"));
    }
    let name = names.as_string_view().value(0).to_owned();
    if tokens.is_null(0) || tokens.as_primitive::<Int64Type>().value(0) < 1 {
        return refuse(format!("'{name}': tokens must be 1 or more"));
    }
    if hessian.is_null(0) {
        return refuse(format!("'{name}': {HESSIAN} is null"));
    }
    Ok(Layer { row, name, hessian })
}

/// Factors the layers that wait, each on a thread of its own.
fn factor_all(
    path: &Path,
    waiting: &mut Vec<Layer>,
    names: &mut Vec<String>,
    factors: &mut Vec<ArrayRef>,
) -> Result<(), IoError> {
    let found = thread::scope(|scope| {
        let started: Vec<_> = waiting
            .iter()
            .map(|layer| {
                thread::Builder::new().spawn_scoped(scope, || hessian_factor(&layer.hessian, &[Some(DAMPING)]))
            })
            .collect::<io::Result<_>>()?;
        Ok(started.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>())
    });
    let found = found.map_err(IoError::Threads)?;
    for (layer, found) in waiting.drain(..).zip(found) {
        let found = found.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        factors.push(found.map_err(|error| {
            IoError::file(path, format!("row {}: '{}': {}", layer.row, layer.name, without_row(&error)))
        })?);
        names.push(layer.name);
    }
    Ok(())
}
