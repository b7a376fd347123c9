//! Hessians that calibration wrote, checked against the model, and the factors that GPTQ takes of them.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};

use crate::{
    model::Model,
    storage::{error::IoError, parquet_table},
    types::{
        activations::TOKENS,
        factor::{DAMPING as DAMPING_FIELD, DEAD_CHANNELS, HESSIAN, hessians_schema},
        weights::NAME,
    },
};

/// The factors of a model's layers, made of a file of Hessians.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The digest of the file.
    pub digest: String,
    /// One row per layer, of [`factors_schema`](crate::types::factor::factors_schema); the factor is null where no damping made the Hessian positive definite.
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

/// One layer's Hessian: a row of the file.
pub struct Hessian {
    /// The number of the row.
    pub row: usize,
    /// The name of the layer.
    pub name: String,
    /// The row itself, of [`hessians_schema`].
    pub table: RecordBatch,
}

/// Reads the Parquet file of Hessians at `path`, holds it against the model, and gives `take` those of the tensors that are
/// `wanted`, one after the other.
///
/// # Errors
/// Returns an error if the file cannot be read, lacks a column or has one of another type, or has no rows, or if a row has a
/// null, no tokens, a name that is no matrix of the model or that another row has, or another length than the upper
/// triangle of that tensor's input. Returns the errors of `take`.
pub fn read_hessians<E: From<IoError>>(
    path: &Path,
    model: &Model,
    wanted: impl Fn(&str) -> bool,
    mut take: impl FnMut(Hessian) -> Result<(), E>,
) -> Result<(), E> {
    let schema = hessians_schema();
    let shapes: HashMap<&str, &[usize]> =
        model.tensors().iter().map(|tensor| (tensor.name.as_str(), &tensor.shape[..])).collect();
    let mut seen = HashSet::new();
    for (row, batch) in parquet_table::open(path, &schema, "Hessians", 1)?.enumerate() {
        let batch = batch.map_err(IoError::arrow(path))?;
        let (name, table) = layer(path, &batch, row)?;
        let refuse = |problem| Err(IoError::file(path, format!("row {row}: '{name}'{problem}")).into());
        let Some([_, inputs]) = shapes.get(name.as_str()) else {
            return refuse(" is no matrix of the model".to_owned());
        };
        let (length, triangle) = (table.column(2).as_list::<i32>().value(0).len(), inputs * (inputs + 1) / 2);
        if length != triangle {
            return refuse(format!(" has {length} numbers; the upper triangle for {inputs} inputs has {triangle}"));
        }
        if !seen.insert(name.clone()) {
            return refuse(" has a row already".to_owned());
        }
        if wanted(&name) {
            take(Hessian { row, name, table })?;
        }
    }
    if seen.is_empty() {
        return Err(IoError::file(path, "has no rows; Hessians have one for each layer").into());
    }
    Ok(())
}

/// Returns the one row of a batch, and the name in it.
fn layer(path: &Path, batch: &RecordBatch, row: usize) -> Result<(String, RecordBatch), IoError> {
    let schema = hessians_schema();
    let columns = [NAME, TOKENS, HESSIAN].map(|name| parquet_table::column(path, batch, &schema, name));
    let columns = columns.into_iter().collect::<Result<Vec<_>, _>>()?;
    let refuse = |problem: String| Err(IoError::file(path, format!("row {row}: {problem}")));
    let [names, tokens, hessian] = [0, 1, 2].map(|column: usize| &columns[column]);
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
    Ok((name, RecordBatch::try_new(schema, columns).map_err(IoError::arrow(path))?))
}
