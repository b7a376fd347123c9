//! The sums that every measure of error between two rows, or two tensors, is made from.

/// Sums over the elements of `a`, the original, and `b`, what its quantized form decodes to. They add up over rows:
/// [`ErrorSums::merge`].
#[derive(Debug, Clone, Copy, PartialEq, Default, serde::Serialize, serde::Deserialize)]
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
    /// The largest `|a - b|`, the difference rounded to f32 where squares are.
    pub max_abs: f64,
    /// The number of elements.
    pub n: u64,
}

impl ErrorSums {
    /// Returns the sums of both parts together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            dot: self.dot + other.dot,
            a2: self.a2 + other.a2,
            b2: self.b2 + other.b2,
            err2: self.err2 + other.err2,
            max_abs: self.max_abs.max(other.max_abs),
            n: self.n + other.n,
        }
    }

    /// Returns true if every bit is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let bits = |sums: &Self| [sums.dot, sums.a2, sums.b2, sums.err2, sums.max_abs].map(f64::to_bits);
        bits(self) == bits(other) && self.n == other.n
    }
}
