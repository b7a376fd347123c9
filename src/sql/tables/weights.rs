//! The weights table of a model: which tensors a query needs, cut into partitions.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};

use super::{external, filter, scan::WeightsScan};
use crate::{
    io::{Model, Part},
    types::weights::weights_schema,
};

/// One row per output channel of every tensor of a model.
#[derive(Debug)]
pub struct WeightsTable {
    model: Arc<Model>,
    parts: Option<Vec<Part>>,
}

impl WeightsTable {
    /// The table of a model. A scan of it has one partition per thread: a contiguous run of rows.
    pub const fn new(model: Arc<Model>) -> Self {
        Self { model, parts: None }
    }

    /// The same table, but a scan of it has exactly these partitions and answers no filter.
    #[must_use]
    pub fn with_partitions(mut self, parts: Vec<Part>) -> Self {
        self.parts = Some(parts);
        self
    }
}

#[async_trait]
impl TableProvider for WeightsTable {
    fn schema(&self) -> SchemaRef {
        weights_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        if self.parts.is_some() {
            return Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()]);
        }
        Ok(filters.iter().map(|filter| filter::support(filter)).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let parts = if let Some(parts) = &self.parts {
            parts.clone()
        } else {
            let tensors = self.model.tensors_batch().map_err(external)?;
            let passing = filter::passing(session, &tensors, filters)?;
            let threads = session.config_options().execution.target_partitions;
            let bytes: u64 = passing.iter().map(|tensor| self.model.tensors()[*tensor].bytes() as u64).sum();
            let parts = self.model.parts(Some(&passing), bytes.div_ceil(threads as u64));
            // A plan without partitions is not one that DataFusion can finish.
            if parts.is_empty() { vec![Part::default()] } else { parts }
        };
        let projection = projection.cloned().unwrap_or_else(|| (0..weights_schema().fields().len()).collect());
        let filters = filters.iter().map(ToString::to_string).collect();
        Ok(Arc::new(WeightsScan::new(Arc::clone(&self.model), parts, projection, filters, limit)?))
    }
}
