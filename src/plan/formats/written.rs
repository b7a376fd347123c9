//! The place of a model's tensor in the output.

use crate::{compute::ErrorBound, plan::equalization::change::Change, storage::row_layout::Order};

/// The place of a tensor's rows in the output.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// The name in the output.
    pub name: &'a str,
    /// The order of its rows.
    pub order: Order,
    /// The change of its weights before they were stored.
    pub change: Option<&'a Change>,
    /// The error that quantization may have made of the changed weights. `None` means that they were not quantized.
    pub bound: Option<ErrorBound>,
}
