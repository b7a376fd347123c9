//! The progress of a run: one pass over the weights after the other.

use std::fmt;

/// A pass over weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The error of each tensor at each width is measured, before bits are chosen.
    Widths,
    /// The size and the error of each tensor at some steps of entropy-coded weights is measured, before one is chosen.
    Steps,
    /// The cost of each alpha is measured, before one is chosen for each layer.
    Alphas,
    /// The size of the weights' channels is measured, before they are equalized.
    Channels,
    /// The weights are quantized. Parts are read back as well, which counts as many bytes again.
    Quantize,
    /// A file that is no part is read back.
    Check,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Widths => "measure widths",
            Self::Steps => "measure steps",
            Self::Alphas => "measure alphas",
            Self::Channels => "measure channels",
            Self::Quantize => "quantize",
            Self::Check => "read back",
        })
    }
}

/// Is told how far a run is, in bytes of the source, from any thread. A run makes one pass or several, one after the other,
/// and each counts its own bytes: from 0 to those that it began with, unless it fails.
pub trait Progress: Sync {
    /// Begins a pass of so many bytes. Nothing of it is done.
    fn start(&self, pass: Pass, total: u64);
    /// Adds bytes that are done.
    fn advance(&self, bytes: u64);
    /// Ends the pass. Another may begin.
    fn finish(&self);
}
