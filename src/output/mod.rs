//! Files in the making: parts, rows in place, the folder and its rename.

pub mod destination;
pub mod folder;
pub mod new_manifest;
mod parts;
mod rows;

pub use folder::{existing, reads};
pub use parts::{part_writer, pending_part};
pub use rows::{row_writer, spooled_rows};
