//! `arrow-quant quantize` for a caller that shows progress and results itself.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::DataFusionError;

use super::{
    CliError,
    quantize::{Arguments, destination, json, plan},
};
use crate::sql::{Cancel, PlannedJob, Progress};

/// What a run gives that prints nothing.
#[derive(Debug)]
pub enum Outcome {
    /// `--dry-run`: one row per tensor, the choice and the bytes before and after.
    Planned(RecordBatch),
    /// The folder is whole.
    Done {
        /// One row per tensor.
        report: RecordBatch,
        /// The figures over all, as `--json` prints them.
        summary: serde_json::Value,
    },
}

/// Runs the command. `progress` is told how far it is; `cancel` stops it.
pub fn run(arguments: &Arguments, progress: &dyn Progress, cancel: &Cancel) -> Result<Outcome, CliError> {
    let Some(model) = &arguments.model else { return Err(CliError::Usage("the model is missing".into())) };
    let planned = plan(arguments, model, progress, cancel)?;
    if arguments.dry_run {
        return Ok(Outcome::Planned(plan_batch(&planned)?));
    }
    let destination = destination(arguments)?;
    let summary = planned.run(&destination, progress, cancel)?;
    Ok(Outcome::Done { summary: json(&summary, planned.by_gptq(), &destination.output), report: summary.report })
}

/// The choices with the bytes of each tensor.
fn plan_batch(planned: &PlannedJob) -> Result<RecordBatch, CliError> {
    let choices = planned.choices_batch(None)?;
    let bytes_in = planned.model().tensors().iter().map(|tensor| tensor.bytes() as i64);
    let bytes = [
        ("bytes_in", bytes_in.collect::<Int64Array>()),
        ("bytes_out", planned.bytes_out().map(|bytes| bytes as i64).collect()),
    ];
    let mut fields = choices.schema().fields().to_vec();
    let mut columns = choices.columns().to_vec();
    for (name, values) in bytes {
        fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
        columns.push(Arc::new(values));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(DataFusionError::from)?)
}
