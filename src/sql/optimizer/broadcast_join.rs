//! The join of weights with a small table, without a copy of the weights.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use arrow_schema::{DataType, Field};
use datafusion::{
    common::{
        DataFusionError, JoinType, NullEquality, Result,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
        utils::memory::RecordBatchMemoryCounter,
    },
    execution::{SendableRecordBatchStream, TaskContext, memory_pool::MemoryConsumer},
    physical_expr::PhysicalExpr,
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, InputDistributionRequirements, PlanProperties, execute_stream,
        execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions},
        joins::{HashJoinExec, PartitionMode},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{BoxFuture, Shared},
};

use super::lookup::Lookup;
use crate::sql::memory::held_once;

/// Puts a [`BroadcastJoinExec`] where a hash join would copy rows of weights.
///
/// A hash join gathers every column of its output row by row. A name has one row of choices, of factors or of a
/// Hessian, so that the rows of the weights come out as they went in: nothing needs to be gathered.
#[derive(Debug, Default)]
pub struct BroadcastJoins;

impl PhysicalOptimizerRule for BroadcastJoins {
    fn name(&self) -> &'static str {
        "broadcast_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let Some(join) = plan.downcast_ref::<HashJoinExec>().filter(|join| is_broadcast(join)) else {
                return Ok(Transformed::no(plan));
            };
            let join = join.builder().build()?;
            Ok(Transformed::yes(Arc::new(BroadcastJoinExec::new(Arc::new(join))) as Arc<dyn ExecutionPlan>))
        })
        .data()
    }
}

/// Returns true if a join does nothing but look up the rows of its right side, some of whose values are long.
fn is_broadcast(join: &HashJoinExec) -> bool {
    let long =
        |field: &Arc<Field>| matches!(field.data_type(), DataType::List(_) | DataType::Binary | DataType::Struct(_));
    *join.partition_mode() == PartitionMode::CollectLeft
        && matches!(join.join_type(), JoinType::Inner | JoinType::Right)
        && join.filter().is_none()
        && join.null_equality() == NullEquality::NullEqualsNothing
        && !join.null_aware
        && join.fetch().is_none()
        && join.right().schema().fields().iter().any(long)
}

const NAME: &str = "BroadcastJoinExec";

/// An equality join that holds its left side in memory and passes the batches of its right side through.
///
/// The columns of the right side are the arrays that came in, sliced where only some rows match, and gathered only
/// where a row matches more than one row of the left side. Rows of the left side are gathered unless those that are found
/// follow each other.
#[derive(Debug)]
pub struct BroadcastJoinExec {
    /// The join to compute: children, keys, projection and properties.
    join: Arc<HashJoinExec>,
    left: OnceLock<SharedLookup>,
}

impl BroadcastJoinExec {
    fn new(join: Arc<HashJoinExec>) -> Self {
        Self { join, left: OnceLock::new() }
    }
}

impl DisplayAs for BroadcastJoinExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let on: Vec<_> = self.join.on().iter().map(|(left, right)| format!("({left}, {right})")).collect();
        write!(f, "{NAME}: join_type={}, on=[{}]", self.join.join_type(), on.join(", "))?;
        if let Some(projection) = &self.join.projection {
            let schema = self.join.join_schema();
            let columns: Vec<_> = projection.iter().map(|i| format!("{}@{i}", schema.field(*i).name())).collect();
            write!(f, ", projection=[{}]", columns.join(", "))?;
        }
        Ok(())
    }
}

impl ExecutionPlan for BroadcastJoinExec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.join.properties()
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        self.join.input_distribution_requirements()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![false, true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![self.join.left(), self.join.right()]
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let join = self.join.builder().recompute_properties().with_new_children(children)?.build()?;
        Ok(Arc::new(Self::new(Arc::new(join))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.join.apply_expressions(f)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let right = self.join.right().execute(partition, Arc::clone(&context))?;
        let lookup = self.left.get_or_init(|| {
            let join = Arc::clone(&self.join);
            let made = async move {
                let reservation = MemoryConsumer::new(NAME).register(context.memory_pool());
                let mut stream = execute_stream(Arc::clone(join.left()), context)?;
                let (mut batches, mut counter) = (Vec::new(), RecordBatchMemoryCounter::new());
                while let Some(batch) = stream.next().await {
                    let batch = batch?;
                    // Held a second time while they are made one.
                    reservation.try_grow(held_once(2 * counter.count_batch(&batch)))?;
                    batches.push(batch);
                }
                Lookup::try_new(&join, &batches, reservation).map(Arc::new)
            };
            made.map(|made| made.map_err(Arc::new)).boxed().shared()
        });
        let (join, lookup) = (Arc::clone(&self.join), lookup.clone());
        let batches = futures::stream::once(async move {
            let lookup = lookup.await.map_err(DataFusionError::Shared)?;
            let joined = right.map(move |batch| lookup.join(&join, &batch?));
            Ok::<_, DataFusionError>(joined)
        });
        let batches = batches.try_flatten().try_filter(|batch| futures::future::ready(batch.num_rows() > 0));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}

/// The left side in the making. All partitions wait for the one attempt, which goes on when one of them is dropped: the
/// plan below can be run only once.
type SharedLookup = Shared<BoxFuture<'static, Result<Arc<Lookup>, Arc<DataFusionError>>>>;

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use arrow_array::{RecordBatch, cast::AsArray};
    use datafusion::{
        catalog::MemTable,
        execution::session_state::SessionStateBuilder,
        physical_plan::{displayable, execute_stream_partitioned},
        prelude::*,
    };

    use super::*;

    /// The rows that a query gives over three weights and a table that knows of some of them, and its plan.
    async fn run(query: &str, rule: bool) -> (Vec<RecordBatch>, String) {
        let mut config = SessionConfig::new().with_target_partitions(1);
        config.options_mut().optimizer.enable_round_robin_repartition = false;
        let mut state = SessionStateBuilder::new().with_config(config).with_default_features();
        if rule {
            state = state.with_physical_optimizer_rule(Arc::new(BroadcastJoins));
        }
        let context = SessionContext::new_with_state(state.build());
        for statement in [
            "CREATE TABLE layers AS SELECT * FROM (VALUES ('a', 0, [1.0, 2.0]), ('a', 1, [3.0]), ('b', 0, [4.0]), \
             (NULL, 0, [5.0]), ('c', 0, NULL)) AS t(name, channel, weights)",
            "CREATE TABLE once AS SELECT * FROM (VALUES ('a', 2), ('c', 4), (NULL, 8)) AS t(name, bits)",
            "CREATE TABLE twice AS SELECT * FROM (VALUES ('a', 2), ('b', 3), ('b', 4)) AS t(name, bits)",
            "CREATE TABLE never AS SELECT * FROM once WHERE bits > 100",
        ] {
            context.sql(statement).await.unwrap().collect().await.unwrap();
        }
        let frame = context.sql(query).await.unwrap();
        let plan = frame.clone().create_physical_plan().await.unwrap();
        (frame.collect().await.unwrap(), displayable(plan.as_ref()).indent(false).to_string())
    }

    #[tokio::test]
    async fn it_gives_what_a_hash_join_gives() {
        for small in ["once", "twice", "never"] {
            for kind in ["JOIN", "LEFT JOIN"] {
                for columns in ["*", "weights, bits", "channel, weights"] {
                    let query = format!(
                        "SELECT {columns} FROM layers {kind} {small} ON layers.name = {small}.name ORDER BY channel, weights"
                    );
                    let (rows, plan) = run(&query, true).await;
                    assert!(plan.contains("BroadcastJoinExec") && !plan.contains("HashJoinExec"), "{plan}");
                    let (want, plan) = run(&query, false).await;
                    assert!(plan.contains("HashJoinExec"), "{plan}");
                    let text = |rows: &[RecordBatch]| pretty_format_batches(rows).unwrap().to_string();
                    assert_eq!(text(&rows), text(&want), "{query}");
                }
            }
        }
    }

    #[tokio::test]
    async fn rows_that_match_once_are_not_copied() {
        let context = SessionContext::new_with_state(
            SessionStateBuilder::new()
                .with_config(SessionConfig::new().with_target_partitions(1))
                .with_default_features()
                .with_physical_optimizer_rule(Arc::new(BroadcastJoins))
                .build(),
        );
        let layers = context.sql("SELECT 'a' AS name, [1.0, 2.0] AS weights").await.unwrap().collect().await.unwrap();
        context.register_batch("layers", layers[0].clone()).unwrap();
        context.sql("CREATE TABLE once AS SELECT 'a' AS name, 2 AS bits").await.unwrap();
        let query = "SELECT weights, bits FROM layers LEFT JOIN once ON layers.name = once.name";
        let rows = context.sql(query).await.unwrap().collect().await.unwrap();
        let values = |batch: &RecordBatch| {
            let lists = batch.column_by_name("weights").unwrap().as_list::<i32>().clone();
            lists.values().to_data().buffers()[0].as_ptr()
        };
        assert_eq!(values(&rows[0]), values(&layers[0]));
    }

    #[tokio::test]
    async fn every_partition_is_told_why_the_left_side_failed() {
        let context = SessionContext::new_with_state(
            SessionStateBuilder::new()
                .with_config(SessionConfig::new().with_target_partitions(3))
                .with_default_features()
                .with_physical_optimizer_rule(Arc::new(BroadcastJoins))
                .build(),
        );
        let layers = context.sql("SELECT 'a' AS name, [1.0, 2.0] AS weights").await.unwrap().collect().await.unwrap();
        let partitions = vec![layers.clone(), layers.clone(), layers.clone()];
        let table = MemTable::try_new(layers[0].schema(), partitions).unwrap();
        context.register_table("layers", Arc::new(table)).unwrap();
        context.sql("CREATE TABLE once AS SELECT 'a' AS name, 2 AS bits").await.unwrap();
        let query = "SELECT weights, bits FROM layers JOIN (SELECT name, 1 / (bits - 2) AS bits FROM once) AS s \
                     ON layers.name = s.name";
        let plan = context.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        let text = displayable(plan.as_ref()).indent(false).to_string();
        assert!(text.contains("BroadcastJoinExec"), "{text}");
        let streams = execute_stream_partitioned(plan, context.task_ctx()).unwrap();
        assert_eq!(streams.len(), 3);
        for stream in streams {
            let error = stream.try_collect::<Vec<_>>().await.unwrap_err();
            assert!(error.to_string().contains("Divide by zero"), "{error}");
        }
    }

    #[tokio::test]
    async fn joins_of_short_values_are_left_alone() {
        let query = "SELECT l.name FROM twice AS l JOIN once AS r ON l.name = r.name";
        assert!(run(query, true).await.1.contains("HashJoinExec"));
    }
}
