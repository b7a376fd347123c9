//! The result of a run, and its figures.

use std::path::Path;

use arrow_array::RecordBatch;

use super::{FarBelow, Totals};
use crate::{
    plan::{equalization::changes::Equalization, share::Share},
    run::measure::prepared::Prepared,
};

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    /// One row per tensor, as `report.parquet` holds it.
    pub report: RecordBatch,
    /// The tensors that lost far more than others of their width, the worst first.
    pub far_below: Vec<FarBelow>,
    /// The share of the parameters that is quantized.
    pub share: Share,
    /// The figures over all quantized tensors.
    pub totals: Totals,
    /// The bytes of the files that hold the weights, headers and all, and of the tables that belong to them.
    pub file_bytes: u64,
    /// Seconds from start to end.
    pub seconds: f64,
    /// Parts that an interrupted run had already finished.
    pub resumed_parts: usize,
    /// True if every tensor was read back and verified.
    pub checked: bool,
    /// The peak of this process's resident memory in bytes, where the system tells.
    pub peak_memory: Option<u64>,
    /// The activation quantizers and factors that were written.
    pub prepared: Prepared,
}

impl Summary {
    /// Returns the figures over all tensors as JSON, as `--json` prints them. `gptq_tensors` is how many GPTQ quantized.
    #[must_use]
    pub fn figures(&self, gptq_tensors: usize, output: &Path) -> serde_json::Value {
        let totals = &self.totals;
        let equalization = self.prepared.equalization.as_ref();
        serde_json::json!({
            "output": output,
            "tensors": totals.tensors,
            "quantized_tensors": totals.quantized_tensors,
            "gptq_tensors": gptq_tensors,
            "quantized_weights": totals.weights,
            "quantized_share": self.share.ratio(),
            "far_below": self.far_below.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(),
            "bits_per_weight": totals.bits_per_weight,
            // JSON has no infinity: weights that lost nothing have no ratio.
            "sqnr_db": totals.errors.map(|sums| sums.sqnr()).filter(|db| db.is_finite()),
            "cosine": totals.errors.map(|sums| sums.cosine_similarity()),
            "mse": totals.errors.map(|sums| sums.mse()),
            "max_abs_error": totals.errors.map(|sums| sums.max_abs),
            "bytes_in": totals.bytes_in,
            "bytes_out": totals.bytes_out,
            "file_bytes": self.file_bytes,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "resumed_parts": self.resumed_parts,
            "activation_quantizers": self.prepared.params.as_ref().map(RecordBatch::num_rows),
            "equalized_tensors": equalization.map(|equalization| equalization.folded() + equalization.scaled()),
            "folded_tensors": equalization.map(Equalization::folded),
            "checked": self.checked,
        })
    }
}
