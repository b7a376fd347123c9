//! Options that several commands share.

use tokio::runtime::{Builder, Runtime};

use super::CliError;

/// The cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Parses `--threads`.
pub fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("must be 1 to 4096".into()),
    }
}

/// Parses a number that is neither NaN nor infinite.
pub fn finite(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if f64::is_finite(number) => Ok(number),
        _ => Err(format!("must be a number, not '{text}'")),
    }
}

/// Parses a number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match finite(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err(format!("must be a number above 0, not '{text}'")),
    }
}

/// A runtime with as many worker threads as asked for, one per core by default.
pub fn runtime(threads: Option<usize>) -> Result<Runtime, CliError> {
    Ok(Builder::new_multi_thread().worker_threads(threads.unwrap_or_else(cores)).enable_all().build()?)
}

/// Parses a size: bytes, or a number with kB, MB, GB, KiB, MiB or GiB.
pub fn bytes(text: &str) -> Result<u64, String> {
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
    use super::bytes;

    #[test]
    fn sizes_are_read_in_powers_of_ten_and_two() {
        assert_eq!(bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(bytes("800 MiB"), Ok(800 << 20));
        assert_eq!(bytes("4096"), Ok(4096));
        for wrong in ["", "GB", "-1", "1TBX", "0", "1e400"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
