//! What the plans of these recipes need beside what `DataFusion` does: nodes and physical rules.

pub mod broadcast_join;
pub mod cooperative_joins;
