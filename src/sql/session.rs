//! A `DataFusion` session with everything registered, and the settings that rows of this size need.

use std::{path::Path, sync::Arc};

use datafusion::{
    catalog::MemTable,
    common::{
        Result,
        config::{ConfigNonZeroUsize, MaxRowGroupBytes},
    },
    dataframe::DataFrame,
    datasource::provider_as_source,
    execution::{context::SessionContext, session_state::SessionStateBuilder},
    logical_expr::{CreateMemoryTable, DdlStatement, LogicalPlan, LogicalPlanBuilder},
    physical_plan::collect_partitioned,
    prelude::SessionConfig,
    sql::parser::Statement,
};

use super::{
    functions::{aggregate_functions, scalar_functions},
    keep::{KeepRows, keep},
    memory,
    named_arguments::fill_left_out,
    optimizer::{broadcast_join::BroadcastJoins, cooperative_joins::GiveWay},
    tables::{ModelFormat, ModelFunction, ModelTableFactory, TableKind, WeightsTable, with_paths},
};
use crate::model::Model;

/// A SQL session over models.
///
/// ```
/// # fn main() -> datafusion::common::Result<()> {
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let session = arrow_quant::sql::Session::new(2)?;
/// let rows = session.sql("SELECT codes(quantize([0.0, 1.0, 2.0, 3.0], 2, 4, 'minmax')) AS codes").await?.collect().await?;
/// assert_eq!(rows[0].num_rows(), 1);
/// # Ok(()) })}
/// ```
#[derive(Clone)]
pub struct Session {
    context: SessionContext,
}

impl Session {
    /// Returns a session that uses `threads` threads. Its queries may hold half of the memory that this process may use.
    ///
    /// # Errors
    /// Returns an error if a function cannot be registered.
    pub fn new(threads: usize) -> Result<Self> {
        Self::with_memory_limit(threads, memory::default_limit())
    }

    /// Returns a session whose queries hold at most about `limit` bytes: rows that are sorted, grouped, joined, looked at
    /// through a window or kept as a table. What does not fit is written to temporary files, or ends the query with an
    /// error. What streams through a query takes some MiB for each thread besides.
    ///
    /// # Errors
    /// Returns an error if a function cannot be registered.
    pub fn with_memory_limit(threads: usize, limit: u64) -> Result<Self> {
        Self::build(threads, Some(limit))
    }

    /// Returns a session for queries of the library's own, whose memory is known beforehand.
    pub(crate) fn unlimited(threads: usize) -> Result<Self> {
        Self::build(threads, None)
    }

    fn build(threads: usize, limit: Option<u64>) -> Result<Self> {
        let state = SessionStateBuilder::new()
            .with_config(config(threads, limit)?)
            .with_runtime_env(memory::environment(limit)?)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(BroadcastJoins))
            .with_physical_optimizer_rule(Arc::new(GiveWay))
            .with_physical_optimizer_rule(Arc::new(KeepRows))
            .build();
        let context = with_paths(SessionContext::new_with_state(state));
        register_all(&context)?;
        Ok(Self { context })
    }

    /// Returns the `DataFusion` context, for everything that is not about models. Tables that it makes by itself
    /// (`CREATE TABLE`) do not count towards the memory limit.
    pub const fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Plans a query. A statement that returns no table, such as `CREATE`, is carried out.
    ///
    /// # Errors
    /// Returns an error if the query, or a file that it names, is wrong.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        self.execute(self.plan(query).await?).await
    }

    /// Plans a query, and carries nothing out.
    ///
    /// # Errors
    /// Returns the errors of [`Self::sql`].
    pub async fn plan(&self, query: &str) -> Result<LogicalPlan> {
        let state = self.context.state();
        self.plan_of(state.sql_to_statement(query, &state.config_options().sql_parser.dialect)?).await
    }

    /// Plans a statement, and carries nothing out. A call by name may leave optional arguments out.
    ///
    /// # Errors
    /// Returns the errors of [`Self::sql`].
    pub async fn plan_of(&self, mut statement: Statement) -> Result<LogicalPlan> {
        fill_left_out(&mut statement);
        self.context.state().statement_to_plan(statement).await
    }

    /// Returns a plan as a query. A statement that returns no table, such as `CREATE`, is carried out.
    ///
    /// # Errors
    /// Returns an error if the plan cannot be carried out.
    pub async fn execute(&self, plan: LogicalPlan) -> Result<DataFrame> {
        let plan = match plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(self.kept(create).await?))
            }
            // A model of that name in the working folder is no table that is in the way.
            LogicalPlan::Ddl(DdlStatement::CreateView(mut create)) => {
                create.or_replace |= !self.context.table_exist(create.name.clone())?;
                LogicalPlan::Ddl(DdlStatement::CreateView(create))
            }
            plan => plan,
        };
        self.context.execute_logical_plan(plan).await
    }

    /// Returns the statement with its rows in memory, reserved for as long as a table holds them.
    async fn kept(&self, mut create: CreateMemoryTable) -> Result<CreateMemoryTable> {
        if !self.context.table_exist(create.name.clone())? {
            // A model of that name in the working folder is no table that is in the way.
            (create.or_replace, create.if_not_exists) = (true, false);
        }
        if create.or_replace {
            let schema = Arc::clone(create.input.schema().inner());
            let query = self.context.execute_logical_plan(Arc::unwrap_or_clone(create.input)).await?;
            let tasks = Arc::new(query.task_ctx());
            let plan = keep(query.create_physical_plan().await?, "CreateTable");
            let table = MemTable::try_new(schema, collect_partitioned(plan, tasks).await?)?;
            let name = create.name.clone();
            create.input =
                Arc::new(LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.build()?);
        }
        Ok(create)
    }

    /// Makes the model at `path` a weights table called `name`.
    ///
    /// # Errors
    /// Returns an error if the model cannot be read.
    pub fn register_model(&self, name: &str, path: &Path) -> Result<()> {
        let model = Model::open(path).map_err(super::tables::external)?;
        self.context.register_table(name, Arc::new(WeightsTable::new(Arc::new(model))))?;
        Ok(())
    }
}

/// Registers every function, table function and file format of this crate in a context.
///
/// # Errors
/// Returns an error if a function cannot be registered.
pub fn register_all(context: &SessionContext) -> Result<()> {
    for function in scalar_functions()? {
        context.register_udf(function);
    }
    for function in aggregate_functions(Some(&context.runtime_env().memory_pool)) {
        context.register_udaf(function);
    }
    for (name, kind) in
        [("safetensors", TableKind::Weights), ("gguf", TableKind::Weights), ("tensors", TableKind::Tensors)]
    {
        context.register_udtf(name, Arc::new(ModelFunction { name, kind }));
    }
    for format in [ModelFormat::SAFETENSORS, ModelFormat::GGUF] {
        context.state_ref().write().register_file_format(Arc::new(format), true)?;
    }
    for format in ["SAFETENSORS", "GGUF"] {
        context.state_ref().write().table_factories_mut().insert(format.into(), Arc::new(ModelTableFactory));
    }
    Ok(())
}

/// Rows of a batch. Every limit of `DataFusion` counts rows: the usual 8,192 would be 256 MiB of weights.
const BATCH_ROWS: usize = 128;

/// Bytes of a row group of a Parquet file that COPY writes.
const ROW_GROUP_BYTES: usize = 128 << 20;

/// Returns the settings that protect plans over rows of 4 to 110 KB.
fn config(threads: usize, limit: Option<u64>) -> Result<SessionConfig> {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(threads.max(1));
    let reservable = limit.map_or(usize::MAX, memory::reservable);
    let options = config.options_mut();
    options.execution.batch_size = ConfigNonZeroUsize::try_new(BATCH_ROWS)?;
    // Partitions are contiguous runs of rows; dealing their batches out would mix the order of rows.
    options.optimizer.enable_round_robin_repartition = false;
    // One operator holds rows, not one for each thread: what the one of another thread has reserved is not there to sort
    // or merge with. An exchange would gather a batch of 128 rows whatever they take, as states of `array_agg` do GBs.
    options.optimizer.repartition_aggregations = false;
    options.optimizer.repartition_joins = false;
    options.optimizer.repartition_sorts = false;
    options.optimizer.repartition_windows = false;
    // A vector or a choice per tensor is the small side of every join: broadcast it, never hash the weights.
    // The default limits of 1 MiB and 131,072 rows are below the per-channel vectors of one large model, and a factor
    // for GPTQ takes up to a gigabyte. A join holds its small side in memory either way.
    options.optimizer.hash_join_single_partition_threshold = 1 << 40;
    options.optimizer.hash_join_single_partition_threshold_rows = 1 << 26;
    // What a sort sets aside to merge with: the default of 10 MiB may be all that there is.
    let merging = options.execution.sort_spill_reservation_bytes;
    options.execution.sort_spill_reservation_bytes = merging.min(reservable / 8);
    // Rows are sorted in place, not merged, up to what 32-bit offsets hold: a merge needs their keys beside them, and a
    // key may be a row of weights.
    options.execution.sort_in_place_threshold_bytes = 1 << 30;
    // A row group ends by its bytes: a million rows, the default, are gigabytes. The parallel writer has no such limit.
    options.execution.parquet.max_row_group_bytes =
        Some(MaxRowGroupBytes::try_new(ROW_GROUP_BYTES.min(reservable / 4).max(1))?);
    options.execution.parquet.allow_single_file_parallelism = false;
    Ok(config)
}
