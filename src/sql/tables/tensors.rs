//! The tensors table: one batch in memory, known from the headers.

use std::sync::Arc;

use datafusion::{
    catalog::{MemTable, TableProvider},
    common::Result,
};

use super::external;
use crate::model::Model;

/// Returns one row per tensor of `model`, in its order.
///
/// # Errors
/// Returns an error if a size is larger than the table can say.
pub fn tensors_table(model: &Model) -> Result<Arc<dyn TableProvider>> {
    let batch = model.tensors_batch().map_err(external)?;
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
