//! The error sums of a tensor, as they are stored.

use std::ops::Range;

use arrow_array::{
    Array,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use serde::{Deserialize, Serialize};

use crate::{
    kernels::error_stats::ErrorStats,
    types::error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
};

/// Sums over the weights of a tensor, `a` the original and `b` what its quantized form decodes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSums {
    /// The sum of `a * b`.
    pub dot: f64,
    /// The sum of `a^2`.
    pub a2: f64,
    /// The sum of `b^2`.
    pub b2: f64,
    /// The sum of `(a - b)^2`.
    pub err2: f64,
    /// The largest `|a - b|`.
    pub max_abs: f64,
    /// The number of weights.
    pub n: u64,
}

impl From<ErrorStats> for ErrorSums {
    fn from(ErrorStats { dot, a2, b2, err2, max_abs, n }: ErrorStats) -> Self {
        Self { dot, a2, b2, err2, max_abs, n }
    }
}

impl From<ErrorSums> for ErrorStats {
    fn from(ErrorSums { dot, a2, b2, err2, max_abs, n }: ErrorSums) -> Self {
        Self { dot, a2, b2, err2, max_abs, n }
    }
}

impl ErrorSums {
    /// Returns the sums of both together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        ErrorStats::from(self).merge(other.into()).into()
    }

    /// Returns the sums and those of some rows of an array of `error_stats`, one after the other.
    ///
    /// # Errors
    /// Returns an error if it is no such array.
    pub fn add_rows(self, errors: &dyn Array, rows: Range<usize>) -> Result<Self, String> {
        let errors = errors.as_struct_opt().ok_or("the errors are no structs")?;
        let column = |name: &str| errors.column_by_name(name).ok_or_else(|| format!("the errors have no field {name}"));
        let field = |name: &str| {
            let values = column(name)?.as_primitive_opt::<Float64Type>();
            values.map(|values| values.values().as_ref()).ok_or_else(|| format!("the field {name} is no Float64"))
        };
        let fields: [&[f64]; 5] = [field(DOT)?, field(A2)?, field(B2)?, field(ERR2)?, field(MAX_ABS)?];
        let n = column(N)?.as_primitive_opt::<Int64Type>().ok_or("the field n is no Int64")?.values();
        Ok(rows.fold(self, |sum, row| {
            let [dot, a2, b2, err2, max_abs] = fields.map(|values| values[row]);
            sum.merge(Self { dot, a2, b2, err2, max_abs, n: n[row] as u64 })
        }))
    }

    /// Returns true if every bit is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let bits = |sums: &Self| [sums.dot, sums.a2, sums.b2, sums.err2, sums.max_abs].map(f64::to_bits);
        bits(self) == bits(other) && self.n == other.n
    }

    /// Returns the measures of the sums: see [`ErrorStats`].
    pub fn stats(&self) -> ErrorStats {
        (*self).into()
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
