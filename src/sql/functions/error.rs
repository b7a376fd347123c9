//! The error of a function in a query.

use datafusion::common::DataFusionError;

use crate::compute::ComputeError;

/// A function that refused its arguments. A query passes it on as it is, inside [`DataFusionError::External`].
#[derive(Debug, thiserror::Error)]
#[error("{function}: {source}")]
pub struct FunctionError {
    /// The name of the function.
    pub function: &'static str,
    /// The problem; its row counts from the start of the batch.
    pub source: ComputeError,
}

impl FunctionError {
    /// Returns a function that wraps the error of the function `function`.
    pub(super) fn of(function: &'static str) -> impl Fn(ComputeError) -> DataFusionError {
        move |source| DataFusionError::External(Box::new(Self { function, source }))
    }
}
