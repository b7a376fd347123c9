//! The query of a plan: its tables, its physical plan, and both as text.

use std::{fmt::Write as _, path::Path, sync::Arc};

use arrow_array::RecordBatch;
use datafusion::{
    common::plan_datafusion_err,
    execution::context::SQLOptions,
    physical_plan::{ExecutionPlan, displayable, execute_stream},
};
use futures::TryStreamExt;

use super::{RunError, measure::prepared::Prepared, plan::Plan, tables::replace};
use crate::{
    model::part::Part,
    output::row_writer::ENCODED,
    plan::equalization::changes::Equalization,
    sql::{
        Session,
        create_table::{create_table, quoted},
        sinks::write_parts::WritePartsExec,
        tables::{Digests, WeightsTable},
        threads::runtime,
    },
    storage::{dtype::float_of, error::IoError},
    types::{
        Float,
        equalization::changes_schema,
        factor::factors_schema,
        output::output_schema,
        weights::{CHANNEL, NAME},
    },
};

/// `error`: what a row lost.
const ERROR: &str = "error";

impl Plan {
    /// Returns the tables that the query joins `layers` with, by name.
    fn tables(&self, prepared: &Prepared) -> Result<Vec<(&'static str, RecordBatch)>, RunError> {
        let equalization = prepared.equalization.as_ref();
        let changes = match equalization {
            Some(equalization) => {
                let stored_as = |number| self.stored_as(equalization, number).map(|float| float.to_string());
                equalization.table(&self.model, stored_as)?
            }
            None => RecordBatch::new_empty(changes_schema()),
        };
        let mut tables = vec![("choices", self.choices_batch(equalization)?), ("changes", changes)];
        if self.export.is_none() && !self.spec.is_entropy() {
            let factors = self.factors.as_ref().map(|factors| factors.table.clone());
            tables.push(("hessian_factors", factors.unwrap_or_else(|| RecordBatch::new_empty(factors_schema()))));
        }
        Ok(tables)
    }

    /// Plans the query in a session in which `layers` are these rows, and the tables are what was prepared.
    async fn planned_over(
        &self,
        session: &Session,
        prepared: &Prepared,
        layers: WeightsTable,
    ) -> Result<Arc<dyn ExecutionPlan>, RunError> {
        session.context().register_table("layers", Arc::new(layers))?;
        self.tables(prepared)?.into_iter().try_for_each(|(name, batch)| replace(session, name, batch))?;
        let queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = session.context().sql_with_options(&self.sql, queries).await?;
        Ok(frame.create_physical_plan().await?)
    }

    /// Runs the query over some rows, and lets go of what it gives.
    pub(super) async fn try_rows(&self, prepared: &Prepared, part: Part) -> Result<(), RunError> {
        let session = Session::unlimited(1)?;
        let layers = WeightsTable::new(Arc::clone(&self.model)).with_partitions(vec![part]);
        let plan = self.planned_over(&session, prepared, layers).await?;
        let mut rows = execute_stream(plan, session.context().task_ctx())?;
        while rows.try_next().await?.is_some() {}
        Ok(())
    }

    /// Returns the physical plan: one partition per part, in their order. `digests` takes those of the source rows.
    pub(super) async fn physical_plan(
        &self,
        session: &Session,
        prepared: &Prepared,
        digests: Option<&Digests>,
    ) -> Result<Arc<dyn ExecutionPlan>, RunError> {
        let mut layers = WeightsTable::new(Arc::clone(&self.model)).with_partitions(self.parts.clone());
        if let Some(digests) = digests {
            layers = layers.with_digests(Arc::clone(digests));
        }
        let plan = self.planned_over(session, prepared, layers).await?;
        let own = output_schema();
        let columns: Vec<&str> = match self.export {
            Some(_) => vec![NAME, CHANNEL, ENCODED, ERROR],
            None => own.fields().iter().map(|field| field.name().as_str()).chain([ERROR]).collect(),
        };
        if let Some(missing) = columns.iter().find(|column| plan.schema().index_of(column).is_err()) {
            let columns = columns.join(", ");
            return Err(plan_datafusion_err!("the query gives no column {missing}; it must give {columns}").into());
        }
        let partitions = plan.properties().partitioning.partition_count();
        if partitions != self.parts.len() {
            return Err(plan_datafusion_err!(
                "the query must keep the {} partitions of layers, and has {partitions}: it cannot sort, group or limit rows",
                self.parts.len()
            )
            .into());
        }
        Ok(plan)
    }

    /// Returns the physical plan as text.
    ///
    /// # Errors
    /// Returns an error if the plan was not [measured](Self::measured), or the query is wrong.
    pub fn explain(&self) -> Result<String, RunError> {
        let session = Session::unlimited(1)?;
        let runtime = runtime(1)?;
        let plan = runtime.block_on(self.physical_plan(&session, self.measurements()?, None))?;
        let plan = WritePartsExec::new(plan, self.spec.format.to_string(), None);
        Ok(displayable(&plan).indent(false).to_string())
    }

    /// Returns the tables and the query as statements for `arrow-quant sql`. `model` is where the model was opened.
    ///
    /// # Errors
    /// Returns an error if the plan was not [measured](Self::measured), or a table cannot be written as SQL.
    pub fn script(&self, model: &Path) -> Result<String, RunError> {
        let model = std::path::absolute(model).map_err(IoError::system("find", model))?;
        let location = model.to_str().ok_or_else(|| IoError::file(&model, "the path must be valid UTF-8"))?;
        let mut script = format!("CREATE EXTERNAL TABLE layers STORED AS SAFETENSORS LOCATION {};\n", quoted(location));
        for (name, batch) in self.tables(self.measurements()?)? {
            let statement = create_table(name, &batch)?;
            let _ = writeln!(script, "{statement}");
        }
        let _ = writeln!(script, "{};", self.sql.trim_end());
        Ok(script)
    }

    /// Returns what was measured before the run.
    fn measurements(&self) -> Result<&Prepared, RunError> {
        let missing = || IoError::file(self.model.folder(), "its plan is not complete: nothing was measured");
        self.prepared.as_ref().ok_or_else(|| missing().into())
    }

    /// Returns the float type of a tensor that is not quantized, in parts, where equalization may change it: a norm or a bias with all
    /// the digits that it has then, which take next to nothing more; a matrix, which would take twice as much, as what it was.
    pub(super) fn stored_as(&self, equalization: &Equalization, number: usize) -> Option<Float> {
        if self.is_widened(number) {
            return Some(Float::F32);
        }
        let carried = self.export.is_none() && self.choices[number].options.is_none();
        let tensor = &self.model.tensors()[number];
        if carried && equalization.of(&tensor.name).is_some() { float_of(tensor.dtype) } else { None }
    }
}
