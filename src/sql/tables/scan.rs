//! The scan of a weights table: rows of a model to batches, one contiguous run of rows per partition.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::{
    common::{
        ColumnStatistics, Result, Statistics, assert_or_internal_err, stats::Precision, tree_node::TreeNodeRecursion,
    },
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{EquivalenceProperties, PhysicalExpr},
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
        execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions},
        stream::RecordBatchStreamAdapter,
    },
};

use super::external;
use crate::{
    model::{
        Model,
        part::Part,
        scan::{BATCH_BYTES, Scan},
    },
    types::weights::weights_schema,
};

/// The digest of the rows of each partition, as they are stored: see [`Scan::digesting`].
pub type Digests = Arc<[OnceLock<String>]>;

/// Reads rows of a model.
#[derive(Debug, Clone)]
pub struct WeightsScan {
    model: Arc<Model>,
    parts: Vec<Part>,
    projection: Vec<usize>,
    /// The filters that the choice of parts already answers, for EXPLAIN.
    filters: Vec<String>,
    limit: Option<usize>,
    digests: Option<Digests>,
    properties: Arc<PlanProperties>,
}

impl WeightsScan {
    /// A scan with one partition per part.
    ///
    /// # Errors
    /// Returns an error if the projection names a column that is not there.
    pub fn new(
        model: Arc<Model>,
        parts: Vec<Part>,
        projection: Vec<usize>,
        filters: Vec<String>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let schema: SchemaRef = Arc::new(weights_schema().project(&projection)?);
        let properties = Arc::new(PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        ));
        Ok(Self { model, parts, projection, filters, limit, digests: None, properties })
    }

    /// The same scan, which notes the digest of each partition's rows when all of them are read.
    #[must_use]
    pub fn with_digests(mut self, digests: Option<Digests>) -> Self {
        self.digests = digests;
        self
    }

    fn rows(&self, partition: Option<usize>) -> usize {
        match partition {
            Some(partition) => self.parts[partition].rows(),
            None => self.parts.iter().map(Part::rows).sum(),
        }
    }
}

impl DisplayAs for WeightsScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let schema = self.schema();
        let columns: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "WeightsScan: partitions={}, rows={}", self.parts.len(), self.rows(None))?;
        write!(f, ", projection=[{}]", columns.join(", "))?;
        if !self.filters.is_empty() {
            write!(f, ", filters=[{}]", self.filters.join(", "))?;
        }
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for WeightsScan {
    fn name(&self) -> &'static str {
        "WeightsScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        assert_or_internal_err!(partition < self.parts.len(), "partition {partition} of {}", self.parts.len());
        let part = self.parts[partition].clone();
        let mut scan =
            Scan::new(Arc::clone(&self.model), part, self.projection.clone(), BATCH_BYTES).map_err(external)?;
        let digests = self.digests.clone();
        if digests.is_some() {
            scan = scan.digesting();
        }
        let mut left = self.limit.unwrap_or(usize::MAX);
        let batches = std::iter::from_fn(move || {
            if left == 0 {
                return None;
            }
            let Some(batch) = scan.next() else {
                if let (Some(slot), Some(digest)) = (digests.as_ref().and_then(|all| all.get(partition)), scan.digest())
                {
                    // A partition that is read again has the digest that it had.
                    let _ = slot.set(digest);
                }
                return None;
            };
            let batch = batch.map_err(external).map(|batch: RecordBatch| {
                let batch = batch.slice(0, batch.num_rows().min(left));
                left -= batch.num_rows();
                batch
            });
            Some(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), futures::stream::iter(batches))))
    }

    fn supports_limit_pushdown(&self) -> bool {
        true
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &datafusion::physical_plan::statistics::StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let rows = self.rows(args.partition()).min(self.limit.unwrap_or(usize::MAX));
        // A limit holds per partition, so without a filter above it is an upper bound only over all.
        let rows = if self.limit.is_some() { Precision::Inexact(rows) } else { Precision::Exact(rows) };
        Ok(Arc::new(Statistics {
            num_rows: rows,
            total_byte_size: Precision::Absent,
            column_statistics: vec![ColumnStatistics::new_unknown(); self.projection.len()],
        }))
    }
}
