//! The error type of the layer of arrays.

use arrow_schema::ArrowError;

use crate::types::OptionsError;

/// An error of an array function. Rows and elements are counted from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// An argument of a type or value that is not accepted. The message says what is.
    #[error("{0}")]
    InvalidArgument(String),
    /// An infinity or NaN where numbers are expected.
    #[error("row {row}, element {element} is {value}; only finite values are accepted")]
    NonFinite {
        /// The row of the array.
        row: usize,
        /// The element of the row.
        element: usize,
        /// The value found.
        value: f32,
    },
    /// A null inside a row that is not null itself.
    #[error("row {row}, element {element} is null; a null row is accepted, a null inside a row is not")]
    NullElement {
        /// The row of the array.
        row: usize,
        /// The element of the row.
        element: usize,
    },
    /// A weight that the format asked for cannot hold.
    #[error("row {row}, element {element} is {value}, which is beyond what {float} holds")]
    TooLarge {
        /// The row of the array.
        row: usize,
        /// The element of the row.
        element: usize,
        /// The value found.
        value: f32,
        /// The float that is to hold it.
        float: &'static str,
    },
    /// A group whose decoded weights are further from what they were than rounding explains.
    #[error("row {row}, element {element} begins a group that decodes to weights further away than rounding explains")]
    Beyond {
        /// The row of the array.
        row: usize,
        /// The first element of the group.
        element: usize,
    },
    /// Two rows that should be of one length are not.
    #[error("row {row}: {what} has {got} elements where {expected} are expected")]
    Length {
        /// The row of the array.
        row: usize,
        /// The thing that is too long or too short.
        what: &'static str,
        /// Its length.
        got: usize,
        /// The length it should have.
        expected: usize,
    },
    /// A quantized value whose fields do not fit together.
    #[error("row {row} is not a quantized value: {reason}")]
    Corrupt {
        /// The row of the array.
        row: usize,
        /// The mismatch.
        reason: String,
    },
    /// An array would pass what its offsets can count.
    #[error("{what} would pass {limit}, the most that one array holds; use smaller batches")]
    Overflow {
        /// The thing that there is too much of.
        what: &'static str,
        /// The most there can be.
        limit: usize,
    },
    /// The operating system refused a thread.
    #[error("cannot start the threads: {0}; allow more (ulimit -u, -v and -n), or use fewer with RAYON_NUM_THREADS")]
    Threads(String),
    /// Options outside what is accepted.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// An error from Arrow itself.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl ComputeError {
    /// Returns the row that is to blame, where there is one: who knows what the row belongs to can name it.
    pub fn row(&self) -> Option<usize> {
        match self {
            Self::NonFinite { row, .. }
            | Self::NullElement { row, .. }
            | Self::TooLarge { row, .. }
            | Self::Beyond { row, .. }
            | Self::Length { row, .. }
            | Self::Corrupt { row, .. } => Some(*row),
            _ => None,
        }
    }

    /// Returns the same error, for an array that starts `rows` before the one it came from.
    #[must_use]
    pub fn offset(mut self, rows: usize) -> Self {
        if let Self::NonFinite { row, .. }
        | Self::NullElement { row, .. }
        | Self::TooLarge { row, .. }
        | Self::Beyond { row, .. }
        | Self::Length { row, .. }
        | Self::Corrupt { row, .. } = &mut self
        {
            *row += rows;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_where_and_what_is_accepted() {
        let error = ComputeError::NonFinite { row: 3, element: 7, value: f32::NAN }.offset(10);
        assert_eq!(error.row(), Some(13));
        assert_eq!(error.to_string(), "row 13, element 7 is NaN; only finite values are accepted");
        let error = ComputeError::Overflow { what: "codes", limit: 9 };
        assert_eq!((error.row(), error.offset(1).to_string().contains("smaller batches")), (None, true));
    }
}
