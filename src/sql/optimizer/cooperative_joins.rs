//! Joins that let go of their thread, so that a query that was cancelled ends.

use std::sync::Arc;

use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        coop::CooperativeExec,
        execution_plan::replace_children_if_necessary,
        joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PiecewiseMergeJoinExec, SortMergeJoinExec},
        unnest::UnnestExec,
    },
};
use futures::StreamExt;

use crate::sql::pass_exec::PassExec;

/// Lets queries give way inside joins.
///
/// A task that was cancelled ends where it next gives way. `DataFusion` counts the batches of scans and exchanges, and lets
/// a task give way after 128. What a join makes of them is not counted: a cross join of three tables of a million rows
/// would compute for days after its query was cancelled. So what joins give is counted as well.
///
/// A join with a condition may give nothing for as long. It gives way after each batch of its right side, which it compares
/// with all rows of the left.
#[derive(Debug, Default)]
pub struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn name(&self) -> &'static str {
        "give_way"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|mut plan| {
            if !gives_more_than_it_takes(plan.as_ref()) {
                return Ok(Transformed::no(plan));
            }
            if plan.is::<HashJoinExec>() || plan.is::<NestedLoopJoinExec>() {
                let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
                if let Some(right) = children.pop() {
                    children.push(give_way(right));
                }
                plan = replace_children_if_necessary(plan, children)?;
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(plan)) as Arc<dyn ExecutionPlan>))
        })
        .data()
    }
}

/// Returns true if many batches may come out for one that goes in, as they do not from
/// [`crate::sql::optimizer::broadcast_join::BroadcastJoinExec`].
fn gives_more_than_it_takes(plan: &dyn ExecutionPlan) -> bool {
    plan.is::<CrossJoinExec>()
        || plan.is::<HashJoinExec>()
        || plan.is::<NestedLoopJoinExec>()
        || plan.is::<PiecewiseMergeJoinExec>()
        || plan.is::<SortMergeJoinExec>()
        || plan.is::<UnnestExec>()
}

/// Returns a node over `input` that gives way after each batch.
fn give_way(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    PassExec::over(input, "GiveWayExec", |batches, _| {
        let one = |batch| async {
            tokio::task::yield_now().await;
            batch
        };
        batches.then(one).boxed()
    })
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use datafusion::physical_plan::displayable;
    use tokio::{runtime::Builder, task::yield_now};

    use crate::sql::Session;

    /// Returns how often a query yields, and its plan. Everything runs on this one thread, which each time comes back here.
    async fn times(session: &Session, query: &str) -> (usize, String) {
        let frame = session.sql(query).await.unwrap();
        let plan = frame.clone().create_physical_plan().await.unwrap();
        let running = tokio::spawn(frame.collect());
        let mut times = 0;
        while !running.is_finished() {
            yield_now().await;
            times += 1;
        }
        running.await.unwrap().unwrap();
        (times, displayable(plan.as_ref()).indent(false).to_string())
    }

    /// Scans of few batches that make at least 10,000 of 128 rows, each after the settings that plan it.
    #[tokio::test]
    async fn what_joins_give_is_counted() {
        let pairs = "SELECT sum(a.value * b.value) FROM range(0, 2000) a, range(0, 2000) b WHERE";
        let unnested = "SELECT unnest(range(value, value + 2000)) AS value FROM range(0, 2000)";
        for (threads, node, settings, query) in [
            (1, "CrossJoinExec", &[][..], format!("{pairs} true")),
            (1, "NestedLoopJoinExec", &[], format!("{pairs} a.value + b.value > 10")),
            (1, "HashJoinExec", &[], format!("{pairs} a.value % 2 = b.value % 2")),
            (
                2,
                "SortMergeJoinExec",
                &["prefer_hash_join = false", "repartition_joins = true"],
                format!("{pairs} a.value % 2 = b.value % 2"),
            ),
            (1, "PiecewiseMergeJoin", &["enable_piecewise_merge_join = true"], format!("{pairs} a.value < b.value")),
            (1, "UnnestExec", &[], format!("SELECT sum(value % 7) FROM ({unnested})")),
        ] {
            let session = Session::new(threads).unwrap();
            for setting in settings {
                session.sql(&format!("SET datafusion.optimizer.{setting}")).await.unwrap();
            }
            let (times, plan) = times(&session, &query).await;
            assert!(plan.contains(node), "{query}\n{plan}");
            assert!(times >= 10_000 / 128, "{times} times\n{plan}");
        }
    }

    #[tokio::test]
    async fn joins_that_give_nothing_give_way() {
        // That no rows meet the condition cannot be told before they are joined.
        for (node, condition) in [("NestedLoopJoinExec", ""), ("HashJoinExec", "a.value % 2 = b.value % 2 AND")] {
            let query = format!(
                "SELECT count(*) FROM range(0, 100) a JOIN range(0, 12800) b ON {condition} a.value + b.value < -1"
            );
            let (times, plan) = times(&Session::new(1).unwrap(), &query).await;
            assert!(plan.contains(node), "{query}\n{plan}");
            assert!(times >= 100, "{times} times\n{plan}");
        }
    }

    #[test]
    fn a_query_that_was_cancelled_ends() {
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let tables = "range(0, 10000) a, range(0, 100000) b, range(0, 1000000) c";
                let query = format!("SELECT sum(a.value * b.value * c.value) FROM {tables}");
                let session = Session::new(2).unwrap();
                let running = tokio::spawn(session.sql(&query).await.unwrap().collect());
                for _ in 0..100 {
                    yield_now().await;
                }
                running.abort();
                assert!(running.await.unwrap_err().is_cancelled());
            });
            // Waits for the tasks that the query has begun.
            drop(runtime);
            sender.send(()).unwrap();
        });
        // Otherwise it would go on for days.
        ended.recv_timeout(Duration::from_mins(2)).unwrap();
    }
}
