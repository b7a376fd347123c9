//! Nodes and physical rules that the plans of these recipes need beside those of `DataFusion`.

pub mod broadcast_join;
pub mod cooperative_joins;
mod lookup;
