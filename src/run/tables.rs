//! Small tables of a run: how they are made, registered and read.

use std::sync::Arc;

use arrow::compute::{cast, concat_batches};
use arrow_array::{ListArray, RecordBatch, types::Float32Type};
use arrow_schema::SchemaRef;
use datafusion::{
    catalog::{MemTable, TableProvider},
    common::{DFSchema, DataFusionError, internal_datafusion_err},
    dataframe::DataFrame,
    datasource::ViewTable,
    logical_expr::{EmptyRelation, LogicalPlan},
};

use super::RunError;
use crate::sql::Session;

/// Lists as Arrow has them.
pub fn lists<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> ListArray {
    ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row.iter().copied().map(Some))))
}

/// Makes a batch the table `name`, whatever was called so before. The planner knows of one without rows that it has none, and
/// leaves out what joins it.
///
/// # Errors
/// Returns an error if `DataFusion` does not take the schema.
pub fn replace(session: &Session, name: &str, batch: RecordBatch) -> Result<(), DataFusionError> {
    session.context().deregister_table(name)?;
    let table: Arc<dyn TableProvider> = if batch.num_rows() == 0 {
        let schema = Arc::new(DFSchema::try_from(batch.schema())?);
        let plan = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
        Arc::new(ViewTable::new(plan, None))
    } else {
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?)
    };
    session.context().register_table(name, table)?;
    Ok(())
}

/// Returns the rows of a query as one batch of `schema`, its columns by name.
pub async fn collect(frame: DataFrame, schema: &SchemaRef) -> Result<RecordBatch, RunError> {
    let given = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    let batch = concat_batches(&given, &batches).map_err(DataFusionError::from)?;
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| internal_datafusion_err!("the recipe gives no column {}", field.name()))?;
        Ok(cast(column, field.data_type())?)
    });
    let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from)?)
}
