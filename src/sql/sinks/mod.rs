//! The last nodes of plans, which write.

mod part_statistics;
pub mod write_parts;
