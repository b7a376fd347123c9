//! The weights table of a model: which tensors a query needs, cut into partitions.

use std::{collections::BTreeSet, sync::Arc};

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::ExecutionPlan,
};

use super::{
    external, filter,
    scan::{Digests, WeightsScan},
};
use crate::{
    model::{Model, part::Part},
    types::weights::weights_schema,
};

/// One row per output channel of every tensor of a model.
#[derive(Debug)]
pub struct WeightsTable {
    model: Arc<Model>,
    parts: Option<Vec<Part>>,
    digests: Option<Digests>,
}

impl WeightsTable {
    /// Returns the table of a model. A scan of it has one partition per thread: a contiguous run of rows.
    pub const fn new(model: Arc<Model>) -> Self {
        Self { model, parts: None, digests: None }
    }

    /// Returns the table of these rows alone: a scan of it has exactly these partitions, less what no filter lets
    /// through.
    #[must_use]
    pub fn with_partitions(mut self, parts: Vec<Part>) -> Self {
        self.parts = Some(parts);
        self
    }

    /// Returns the same table, whose scan notes the digest of the rows of each partition when all of them are read.
    #[must_use]
    pub fn with_digests(mut self, digests: Digests) -> Self {
        self.digests = Some(digests);
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
            let mut parts = parts.clone();
            if !filters.is_empty() {
                // Of these tensors alone: `compare` scans thousands of tensors one at a time, and a table of all for each
                // would be quadratic.
                let tensors: BTreeSet<usize> = parts.iter().flat_map(|part| &part.runs).map(|run| run.tensor).collect();
                let known = |tensor: &usize| *tensor < self.model.tensors().len();
                let tensors: Vec<usize> = tensors.into_iter().filter(known).collect();
                let batch = self.model.tensors_batch_of(&tensors).map_err(external)?;
                let passing = filter::passing(session, &batch, filters)?;
                let passing: Vec<usize> = passing.into_iter().map(|position| tensors[position]).collect();
                for part in &mut parts {
                    part.runs.retain(|run| passing.binary_search(&run.tensor).is_ok());
                    *part = self.model.part(std::mem::take(&mut part.runs));
                }
            }
            parts
        } else {
            let passing = filter::passing(session, &self.model.tensors_batch().map_err(external)?, filters)?;
            let threads = session.config_options().execution.target_partitions;
            let bytes: u64 = passing.iter().map(|tensor| self.model.tensors()[*tensor].bytes() as u64).sum();
            let parts = self.model.parts(Some(&passing), bytes.div_ceil(threads as u64));
            // A plan without partitions is not one that DataFusion can finish.
            if parts.is_empty() { vec![Part::default()] } else { parts }
        };
        let projection = projection.cloned().unwrap_or_else(|| (0..weights_schema().fields().len()).collect());
        let filters = filters.iter().map(ToString::to_string).collect();
        let scan = WeightsScan::new(Arc::clone(&self.model), parts, projection, filters, limit)?;
        Ok(Arc::new(scan.with_digests(self.digests.clone())))
    }
}
