//! Models as tables, and tables as files of a model: `STORED AS SAFETENSORS` and `GGUF`, read and copied to,
//! `safetensors('path')`, `gguf('path')`, `tensors('path')`, and paths in the place of a table.

mod by_path;
mod copy;
mod factory;
mod filter;
mod function;
mod scan;
mod tensors;
mod weights;

use datafusion::common::DataFusionError;

pub use by_path::with_paths;
pub use copy::ModelFormat;
pub use factory::ModelTableFactory;
pub use function::{ModelFunction, TableKind};
pub use scan::Digests;
pub use tensors::tensors_table;
pub use weights::WeightsTable;

/// Returns an error of the layer below, unchanged, as an error of `DataFusion`.
pub(crate) fn external(error: crate::storage::error::IoError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
