//! The place of a model's tensor in the output.

use crate::{plan::equalization::change::Change, storage::row_layout::Order};

/// The place of a tensor's rows in the output.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// The name in the output.
    pub name: &'a str,
    /// The order of its rows.
    pub order: Order,
    /// The change of its weights before they were stored.
    pub change: Option<&'a Change>,
}
