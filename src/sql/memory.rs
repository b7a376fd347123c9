//! The memory that the queries of a session share.

use std::{num::NonZeroUsize, sync::Arc};

use datafusion::{
    common::Result,
    execution::{
        memory_pool::{FairSpillPool, TrackConsumersPool},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
};

use super::usable_memory::usable;

/// The number of times that an operator of `DataFusion` holds what it has reserved once, at worst: it copies rows to
/// compare, sort, spill and hand them on, and reserves nothing for the copies. Measured with `GROUP BY` and
/// `ORDER BY` of lists.
const COPIES: usize = 4;

/// Consumers that an error names.
const NAMED: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// The limit where the system does not tell how much memory there is.
const UNKNOWN: u64 = 4 << 30;

/// Returns the limit of a session that is given none: half of the memory that this process may use.
pub fn default_limit() -> u64 {
    usable().map_or(UNKNOWN, |bytes| bytes / 2)
}

/// Returns the bytes that the operators of a session may reserve.
pub fn reservable(limit: u64) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX) / COPIES
}

/// Returns what is to be reserved for bytes that are held once and never copied.
pub const fn held_once(bytes: usize) -> usize {
    bytes.div_ceil(COPIES)
}

/// Returns an environment whose operators hold at most `limit` bytes, copies included.
///
/// # Errors
/// Returns an error if the environment cannot be built.
pub fn environment(limit: Option<u64>) -> Result<Arc<RuntimeEnv>> {
    let builder = RuntimeEnvBuilder::new();
    let Some(limit) = limit else { return builder.build_arc() };
    let pool = TrackConsumersPool::new(FairSpillPool::new(reservable(limit)), NAMED);
    builder.with_memory_pool(Arc::new(pool)).build_arc()
}
