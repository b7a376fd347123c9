//! The output folder: parts, manifest and report, written beside and renamed.

mod content;
mod entries;
mod error_sums;
mod folder;
mod lock;
mod manifest;
mod new_manifest;
pub(in crate::io) mod part;
mod part_reader;
mod place;
mod reads;
mod report;
mod row_files;
mod row_group;
mod row_order;
mod tensor_report;
mod unfinished;
mod unsettled;

pub use error_sums::ErrorSums;
pub use folder::{Existing, OutputFolder};
pub use manifest::{
    ACTIVATION_PARAMS, EQUALIZATION, EQUALIZATION_DIGEST, EQUALIZED_VERSION, FORMAT_VERSION, FileEntry, MANIFEST,
    Manifest, PartEntry, Source, TensorEntry, WIDTHS, part_file,
};
pub use new_manifest::new_manifest;
pub use part::PartWriter;
pub use part_reader::PartReader;
pub use report::{REPORT, Totals, merge, report_batch, totals, write_report};
pub use row_files::{ENCODED, RowFiles, RowWriter};
pub use tensor_report::TensorReport;
pub use unsettled::{Unsettled, WrittenPart, read_back};
