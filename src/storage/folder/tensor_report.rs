//! The report on each tensor that a part holds rows of.

use serde::{Deserialize, Serialize};

use crate::types::ErrorSums;

/// The report of a part, or of all parts together, on one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// The bytes that they take.
    pub bytes_out: u64,
    /// The errors of the rows. `None` means that they are copied unchanged.
    pub errors: Option<ErrorSums>,
    /// The digest of what they hold, in a part of its own file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

impl TensorReport {
    pub(crate) fn new(name: String, bytes: usize) -> Self {
        Self { name, rows: 1, bytes_out: bytes as u64, errors: None, content: String::new() }
    }

    /// Returns a report of rows that take no bytes yet.
    pub(crate) fn empty(name: String, rows: usize) -> Self {
        Self { name, rows: rows as u64, bytes_out: 0, errors: None, content: String::new() }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes_out += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_sums_read_back_as_written() {
        for value in [0.1, 1.0 / 3.0, 1e-310, f64::MAX, 5e-324, 123_456_789.123_456_78] {
            let sums =
                ErrorSums { dot: -value, a2: value, b2: value * 0.7, err2: value / 3.0, max_abs: value, n: u64::MAX };
            let json = serde_json::to_string(&sums).unwrap();
            assert_eq!(serde_json::from_str::<ErrorSums>(&json).unwrap(), sums, "{json}");
        }
    }
}
