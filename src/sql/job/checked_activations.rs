//! The activations of a model, and what a run is to make of them.

use std::{collections::BTreeMap, path::PathBuf};

use crate::types::{ActivationBits, TimeMethod};

/// What to do with the activations of a model.
#[derive(Debug, Clone)]
pub struct ActivationOptions {
    /// The Parquet file that holds them.
    pub file: PathBuf,
    /// Groups of timesteps, at most.
    pub time_groups: u32,
    /// How time is cut.
    pub time_method: TimeMethod,
    /// Bits per activation.
    pub bits: ActivationBits,
    /// Whether zero points are the middle code.
    pub symmetric: bool,
}

/// Activations that were held against the model.
#[derive(Debug)]
pub struct CheckedActivations {
    pub(super) options: ActivationOptions,
    pub(super) digest: String,
    /// The mean square of each input channel over all tokens.
    pub(super) mean_squares: BTreeMap<String, Vec<f64>>,
}

impl CheckedActivations {
    /// The mean square of each input channel over all tokens, by the name of the tensor.
    pub const fn mean_squares(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.mean_squares
    }

    /// The options, for a manifest to record.
    pub fn describe(&self) -> serde_json::Value {
        let options = &self.options;
        serde_json::json!({
            "digest": self.digest,
            "time_groups": options.time_groups,
            "time_method": options.time_method.name(),
            "bits": options.bits.get(),
            "symmetric": options.symmetric,
        })
    }
}
