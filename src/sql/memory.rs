//! The memory that the queries of a session share.

use std::{cmp::Reverse, fmt, num::NonZeroUsize, sync::Arc};

use datafusion::{
    common::{DataFusionError, Result, human_readable_size},
    execution::{
        memory_pool::{FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, TrackConsumersPool},
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
    builder.with_memory_pool(Arc::new(QueryPool::new(reservable(limit)))).build_arc()
}

/// A pool that shares its bytes fairly among those that can spill, and says who holds them when they do not suffice.
#[derive(Debug)]
struct QueryPool {
    pool: TrackConsumersPool<FairSpillPool>,
    size: usize,
}

impl QueryPool {
    fn new(size: usize) -> Self {
        Self { pool: TrackConsumersPool::new(FairSpillPool::new(size), NAMED), size }
    }

    /// Returns who needs more, who holds the most, and how much there is.
    fn refusal(&self, consumer: &str) -> String {
        let mut held = self.pool.metrics();
        held.retain(|held| held.reserved > 0);
        held.sort_by_key(|held| Reverse(held.reserved));
        let named = held.iter().take(NAMED.get());
        let named: Vec<_> = named.map(|held| format!("{} {}", held.name, human_readable_size(held.reserved))).collect();
        let named = if named.is_empty() { "nothing".to_owned() } else { named.join(", ") };
        let size = human_readable_size(self.size);
        format!("{consumer} needs more, and {named} of {size}, a quarter of the memory limit, is reserved")
    }
}

impl fmt::Display for QueryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.fmt(f)
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &'static str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.pool.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.pool.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.pool.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.pool.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.pool.try_grow(reservation, additional).map_err(|error| match error {
            // Operators spill at an error of this kind, so that it stays one.
            DataFusionError::ResourcesExhausted(_) => {
                DataFusionError::ResourcesExhausted(self.refusal(reservation.consumer().name()))
            }
            error => error,
        })
    }

    fn reserved(&self) -> usize {
        self.pool.reserved()
    }

    fn memory_limit(&self) -> MemoryLimit {
        self.pool.memory_limit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_names_who_holds_it() {
        let pool = environment(Some(4 << 20)).unwrap().memory_pool.clone();
        let idle = MemoryConsumer::new("Idle").register(&pool);
        let join = MemoryConsumer::new("HashJoinInput").register(&pool);
        let window = MemoryConsumer::new("Window").register(&pool);
        let refusal = |bytes| match window.try_grow(bytes).unwrap_err() {
            DataFusionError::ResourcesExhausted(text) => text,
            error => panic!("{error}"),
        };
        let expected = "Window needs more, and nothing of 1024.0 KB, a quarter of the memory limit, is reserved";
        assert_eq!(refusal(2 << 20), expected);
        join.try_grow(1 << 19).unwrap();
        let expected =
            "Window needs more, and HashJoinInput 512.0 KB of 1024.0 KB, a quarter of the memory limit, is reserved";
        assert_eq!(refusal(1 << 20), expected);
        drop(idle);
    }
}
