//! Where a tensor of the model is in the output.

use crate::{plan::equalization::change::Change, storage::row_layout::Order};

/// Where the rows of a tensor are in the output.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// What it is called there.
    pub name: &'a str,
    /// How its rows follow each other.
    pub order: Order,
    /// What was changed of its weights before they were stored.
    pub change: Option<&'a Change>,
}
