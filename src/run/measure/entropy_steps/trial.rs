//! Steps tried with the rows of tensors: what each takes and loses.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, internal_datafusion_err};

use crate::{
    run::{
        RunError,
        measure::{
            Survey,
            error_sums::{error_fields, error_sums},
        },
        plan::Plan,
        progress::Pass,
    },
    sql::recipes,
    types::{ErrorSums, weights::NAME},
};

/// A step that a tensor is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Try {
    pub tensor: usize,
    pub step: f32,
    /// One row in so many is tried.
    pub every: usize,
}

/// The outcome of a [`Try`].
#[derive(Debug, Clone, Copy)]
pub struct Tried {
    /// The bytes of all rows, by those that were tried.
    pub bytes: f64,
    pub errors: ErrorSums,
}

impl Tried {
    /// Returns the signal-to-noise ratio in dB; infinite where nothing is lost.
    pub fn sqnr(&self) -> f64 {
        self.errors.sqnr()
    }
}

/// Tries steps, each with a tensor, through `sql/entropy_steps.sql`.
///
/// # Errors
/// Returns an error if weights are not finite, a file cannot be read, or the run was cancelled.
pub fn try_steps(plan: &Plan, survey: Survey, tries: &[Try]) -> Result<Vec<Tried>, RunError> {
    let model = &plan.model;
    let mut tensors: Vec<usize> = tries.iter().map(|one| one.tensor).collect();
    tensors.sort_unstable();
    tensors.dedup();
    let table = [("steps", steps_batch(plan, tries)?)];
    let mut sums: BTreeMap<usize, (f64, ErrorSums)> = BTreeMap::new();
    for part in survey.run(Pass::Steps, plan, &tensors, recipes::ENTROPY_STEPS, &table, &sums_schema())? {
        add_sums(&part, &mut sums);
    }
    let one = |(number, one): (usize, &Try)| {
        let tensor = &model.tensors()[one.tensor];
        let missing = || internal_datafusion_err!("the recipe gives no figures for {}", tensor.name);
        let (bytes, errors) = *sums.get(&number).ok_or_else(missing)?;
        Ok(Tried { bytes: bytes * tensor.elements() as f64 / (errors.n as f64).max(1.0), errors })
    };
    tries.iter().enumerate().map(one).collect()
}

/// Returns the steps to try, one row each, for the recipe to join.
fn steps_batch(plan: &Plan, tries: &[Try]) -> Result<RecordBatch, DataFusionError> {
    let names = tries.iter().map(|one| plan.model.tensors()[one.tensor].name.as_str());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new((0..tries.len() as i64).collect::<Int64Array>()),
        Arc::new(tries.iter().map(|one| Some(f64::from(one.step))).collect::<Float64Array>()),
        Arc::new(tries.iter().map(|one| one.every as i64).collect::<Int64Array>()),
    ];
    let schema = Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new("number", DataType::Int64, false),
        Field::new("step", DataType::Float64, false),
        Field::new("every", DataType::Int64, false),
    ]);
    Ok(RecordBatch::try_new(Arc::new(schema), columns)?)
}

/// Returns the schema of the rows that the recipe gives.
fn sums_schema() -> SchemaRef {
    let count = |name| Field::new(name, DataType::Int64, true);
    let fields = [Field::new(NAME, DataType::Utf8View, true), count("number"), count("bytes")];
    Arc::new(Schema::new(fields.into_iter().chain(error_fields()).collect::<Vec<_>>()))
}

/// Adds what the rows of a part take and lose.
fn add_sums(part: &RecordBatch, sums: &mut BTreeMap<usize, (f64, ErrorSums)>) {
    let [number, bytes] = [1, 2].map(|column| part.column(column).as_primitive::<Int64Type>().values());
    for (row, errors) in error_sums(part, 3).enumerate() {
        // A part may have no row of a sample.
        let Some(errors) = errors else { continue };
        let (all, sum) = sums.entry(number[row] as usize).or_default();
        (*all, *sum) = (*all + bytes[row] as f64, sum.merge(errors));
    }
}
