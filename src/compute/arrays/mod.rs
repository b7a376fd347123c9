//! Arrays read and built row by row: what the operations share.

pub mod builder;
pub mod encoding;
pub mod entropy_row;
pub mod floats;
pub mod group_coder;
pub mod importance;
pub mod list;
pub mod options;
pub mod pair;
pub mod parallel;
pub mod quantized;
pub mod row;
pub mod rows;
