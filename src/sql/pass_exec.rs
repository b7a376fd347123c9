//! A node that passes the batches of its input on.

use std::{fmt, sync::Arc};

use arrow_array::RecordBatch;
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, Statistics,
        execution_plan::{CardinalityEffect, ChildrenPropertiesMode, ReplaceChildrenOptions},
        statistics::{ChildStats, StatisticsArgs},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::stream::BoxStream;

/// Writes the functions of a node with the field `input` and no expressions. `rebuilt` makes the node over another input.
macro_rules! one_input {
    ($rebuilt:expr) => {
        fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
            vec![&self.input]
        }

        fn replace_children(
            self: Arc<Self>,
            mut children: Vec<Arc<dyn ExecutionPlan>>,
            _: ReplaceChildrenOptions,
        ) -> Result<Arc<dyn ExecutionPlan>> {
            let rebuilt: fn(&Self, Arc<dyn ExecutionPlan>) -> Self = $rebuilt;
            Ok(Arc::new(rebuilt(&self, children.swap_remove(0))))
        }

        fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
            self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
        }

        fn apply_expressions(
            &self,
            _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
        ) -> Result<TreeNodeRecursion> {
            Ok(TreeNodeRecursion::Continue)
        }
    };
}
pub(super) use one_input;

/// The batches of one partition.
pub type Batches = BoxStream<'static, Result<RecordBatch>>;

/// The treatment of the batches of a partition on their way.
type Pass = dyn Fn(SendableRecordBatchStream, &TaskContext) -> Batches + Send + Sync;

/// A node that gives as many rows as it takes, in their order.
pub struct PassExec {
    input: Arc<dyn ExecutionPlan>,
    name: &'static str,
    pass: Arc<Pass>,
}

impl PassExec {
    /// Returns a node over `input` that a plan shows as `name`. `pass` takes the batches of a partition, and gives them on.
    pub fn over(
        input: Arc<dyn ExecutionPlan>,
        name: &'static str,
        pass: impl Fn(SendableRecordBatchStream, &TaskContext) -> Batches + Send + Sync + 'static,
    ) -> Arc<dyn ExecutionPlan> {
        Arc::new(Self { input, name, pass: Arc::new(pass) })
    }
}

impl fmt::Debug for PassExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for PassExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl ExecutionPlan for PassExec {
    one_input!(|node, input| Self { input, name: node.name, pass: Arc::clone(&node.pass) });

    fn name(&self) -> &'static str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), (self.pass)(input, &context))))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&inputs[0]))
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}
