//! The activations of a model, checked against it.

use std::{collections::BTreeMap, path::PathBuf};

/// Activations that were checked against the model.
#[derive(Debug)]
pub struct CheckedActivations {
    /// The Parquet file that holds them.
    pub(in crate::run) file: PathBuf,
    pub(in crate::run) digest: String,
    /// The mean square of each input channel over all tokens.
    pub(in crate::run) mean_squares: BTreeMap<String, Vec<f64>>,
}

impl CheckedActivations {
    /// Returns the mean square of each input channel over all tokens, by the name of the tensor.
    pub const fn mean_squares(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.mean_squares
    }
}
