//! Files in the making: parts, rows in place, the folder and its rename.

pub mod destination;
mod entries;
pub mod existing;
pub mod folder;
mod lock;
pub mod new_manifest;
pub mod part_writer;
pub mod pending_part;
mod place;
pub mod reads;
mod row_group;
mod row_order;
pub mod row_writer;
pub mod spooled_rows;
mod unfinished;
