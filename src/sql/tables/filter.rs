//! The filters that the scan answers itself: those over columns that are the same for a whole tensor.

use arrow::compute::{and, prep_null_mask_filter};
use arrow_array::{Array, BooleanArray, RecordBatch, cast::AsArray};
use datafusion::{
    catalog::Session,
    common::{DFSchema, Result},
    logical_expr::{Expr, TableProviderFilterPushDown, utils::expr_to_columns},
};

use crate::types::weights::{DTYPE, LAYER, MODULE, NAME, SHAPE};

const TENSOR_COLUMNS: [&str; 5] = [NAME, LAYER, MODULE, DTYPE, SHAPE];

/// Returns `Exact` for a filter that whole tensors pass or fail, else `Unsupported`.
pub fn support(filter: &Expr) -> TableProviderFilterPushDown {
    let mut columns = std::collections::HashSet::new();
    let known = expr_to_columns(filter, &mut columns).is_ok();
    if known && !filter.is_volatile() && columns.iter().all(|column| TENSOR_COLUMNS.contains(&column.name.as_str())) {
        TableProviderFilterPushDown::Exact
    } else {
        TableProviderFilterPushDown::Unsupported
    }
}

/// Returns the positions of the tensors that pass every filter; `tensors` has a row for each tensor.
///
/// # Errors
/// Returns an error if a filter cannot be evaluated.
pub fn passing(session: &dyn Session, tensors: &RecordBatch, filters: &[Expr]) -> Result<Vec<usize>> {
    let schema = DFSchema::try_from(tensors.schema().as_ref().clone())?;
    let mut passes = BooleanArray::from(vec![true; tensors.num_rows()]);
    for filter in filters {
        let filter = session.create_physical_expr(filter.clone(), &schema)?;
        let mask = filter.evaluate(tensors)?.into_array(tensors.num_rows())?;
        let mask = mask.as_boolean();
        // A null does not pass.
        let mask = if mask.null_count() == 0 { mask.clone() } else { prep_null_mask_filter(mask) };
        passes = and(&passes, &mask)?;
    }
    Ok(passes.values().set_indices().collect())
}
