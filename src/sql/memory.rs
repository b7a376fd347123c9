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

/// How often an operator of `DataFusion` holds what it has reserved once, at worst: it copies rows to compare them, to
/// sort them, to spill them and to hand them on, and reserves nothing for the copies. Measured with `GROUP BY` and
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

/// Parses a size: bytes, or a number with kB, MB, GB, KiB, MiB or GiB.
///
/// # Errors
/// Returns what is expected if `text` is no size of at least one byte.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let error = || format!("must be a size such as 800MB or 1GiB, not '{text}'");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| error())?;
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return Err(error()),
    };
    let bytes = number * unit as f64;
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_in_powers_of_ten_and_two() {
        assert_eq!(parse_size("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_size("800 MiB"), Ok(800 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        for wrong in ["", "GB", "-1", "1TBX", "0", "1e400"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
