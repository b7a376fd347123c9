//! Rows put where they lie in a file: in place where the layout is known, spooled where it is not.

pub mod row_writer;
mod spooled_columns;
pub mod spooled_rows;
