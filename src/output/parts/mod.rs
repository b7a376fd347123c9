//! Parts: rows in a fixed order, cut into row groups, in a file that has its name when it is whole.

pub mod part_writer;
pub mod pending_part;
pub mod row_group;
pub mod row_order;
