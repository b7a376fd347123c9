//! Models as tables, and tables as files of a model: `STORED AS SAFETENSORS` and `GGUF`, read and copied to,
//! `safetensors('path')`, `gguf('path')`, `tensors('path')`.

mod copy;
mod factory;
mod filter;
mod function;
mod scan;
mod tensors;
mod weights;

use datafusion::common::DataFusionError;

pub use copy::ModelFormat;
pub use factory::ModelTableFactory;
pub use function::{ModelFunction, TableKind};
pub use scan::Digests;
pub use tensors::tensors_table;
pub use weights::WeightsTable;

/// An error of the layer below, unchanged, as `DataFusion` carries it.
pub(crate) fn external(error: crate::storage::error::IoError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
