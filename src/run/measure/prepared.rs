//! The tables that a run measures before the weights are quantized.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;

use super::equalized_inputs::Factors;
use crate::plan::equalization::changes::Equalization;

/// The tables that a run writes beside the weights.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The activation quantizers; none without activations.
    pub params: Option<RecordBatch>,
    /// The factors of each input whose channels are equalized, by its name; `None` unless asked for.
    pub factors: Option<Factors>,
    /// The changes of each tensor by equalization. `None` means that it was not asked for.
    pub equalization: Option<Equalization>,
    /// The layers that are not equalized, by name, and why: those of a format that has no place for factors that cannot be
    /// folded.
    pub left_alone: BTreeMap<String, String>,
}
