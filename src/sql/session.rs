//! A `DataFusion` session with everything registered, and the settings that rows of this size need.

use std::{path::Path, sync::Arc};

use datafusion::{
    common::{Result, config::ConfigNonZeroUsize},
    dataframe::DataFrame,
    execution::{context::SessionContext, session_state::SessionStateBuilder},
    prelude::SessionConfig,
};

use super::{
    broadcast_join::BroadcastJoins,
    functions::{aggregate_functions, scalar_functions},
    give_way::GiveWay,
    tables::{ModelFormat, ModelFunction, ModelTableFactory, TableKind, WeightsTable},
};
use crate::io::Model;

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
    /// A session that uses `threads` threads.
    ///
    /// # Errors
    /// When a function cannot be registered.
    pub fn new(threads: usize) -> Result<Self> {
        let state = SessionStateBuilder::new()
            .with_config(config(threads)?)
            .with_default_features()
            .with_physical_optimizer_rule(Arc::new(BroadcastJoins))
            .with_physical_optimizer_rule(Arc::new(GiveWay))
            .build();
        let context = SessionContext::new_with_state(state);
        register_all(&context)?;
        Ok(Self { context })
    }

    /// The `DataFusion` context, for everything that is not about models.
    pub const fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Plans a query.
    ///
    /// # Errors
    /// When the query is wrong, or a file that it names.
    pub async fn sql(&self, query: &str) -> Result<DataFrame> {
        self.context.sql(query).await
    }

    /// Makes the model at `path` a weights table called `name`.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn register_model(&self, name: &str, path: &Path) -> Result<()> {
        let model = Model::open(path).map_err(super::tables::external)?;
        self.context.register_table(name, Arc::new(WeightsTable::new(Arc::new(model))))?;
        Ok(())
    }
}

/// Registers every function, table function and file format of this crate in a context.
///
/// # Errors
/// When a function cannot be registered.
pub fn register_all(context: &SessionContext) -> Result<()> {
    for function in scalar_functions()? {
        context.register_udf(function);
    }
    for function in aggregate_functions() {
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

/// The settings that protect plans over rows of 4 to 110 KB.
fn config(threads: usize) -> Result<SessionConfig> {
    let mut config = SessionConfig::new().with_information_schema(true).with_target_partitions(threads.max(1));
    let options = config.options_mut();
    options.execution.batch_size = ConfigNonZeroUsize::try_new(BATCH_ROWS)?;
    // Partitions are contiguous runs of rows; dealing their batches out would mix the order of rows.
    options.optimizer.enable_round_robin_repartition = false;
    // A vector or a choice per tensor is the small side of every join: broadcast it, never hash the weights.
    // The default limits of 1 MiB and 131,072 rows are below the per-channel vectors of one large model, and a factor
    // for GPTQ takes up to a gigabyte. A join holds its small side in memory either way.
    options.optimizer.hash_join_single_partition_threshold = 1 << 40;
    options.optimizer.hash_join_single_partition_threshold_rows = 1 << 26;
    Ok(config)
}
