//! The report of a run, through `sql/report.sql`.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow_array::RecordBatch;
use datafusion::catalog::MemTable;

use super::{JobError, PlannedJob};
use crate::{
    io::{TensorSums, Totals, sums_batch},
    sql::{Session, recipes, tables::tensors_table},
};

/// One row per tensor, and the figures over all quantized ones. `sums` come part by part, in the order of the model.
pub async fn report(
    job: &PlannedJob,
    sums: impl Iterator<Item = TensorSums>,
) -> Result<(RecordBatch, Totals), JobError> {
    let sums = TensorSums::merge(sums);
    let session = Session::new(1)?;
    let context = session.context();
    for (name, batch) in [("choices", job.choices_batch()?), ("errors", sums_batch(&sums)?)] {
        context.register_table(name, Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))?;
    }
    context.register_table("tensors", tensors_table(&job.model)?)?;
    let frame = session.sql(recipes::REPORT.sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let report = concat_batches(&schema, &frame.collect().await?).map_err(datafusion::common::DataFusionError::from)?;
    Ok((report, Totals::of(job.model.tensors(), &job.choices, &sums)))
}
