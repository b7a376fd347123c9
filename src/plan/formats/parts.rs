//! Parts: our own codes, with scales and zero points of two levels, in files of Parquet or Arrow.

use super::{export::Export, format::Format};
use crate::{
    model::Model,
    plan::{selection::Choice, spec::Spec},
    storage::error::IoError,
    types::PartFormat,
};

/// Parts of one format.
pub struct Parts(pub PartFormat);

impl Format for Parts {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn summary(&self) -> &'static str {
        match self.0 {
            PartFormat::Parquet => "parts that SQL engines and Python read",
            PartFormat::Arrow => "the same parts, read without a copy",
        }
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "bits",
            "bits_for",
            "group_size",
            "method",
            "symmetric",
            "min_sqnr",
            "target_size",
            "target_bpw",
            "hessians",
            "equalize",
        ]
    }

    fn part_format(&self) -> Option<PartFormat> {
        Some(self.0)
    }

    fn plan(&self, _: &Model, _: &mut [Choice], _: &Spec) -> Result<Option<Export>, IoError> {
        Ok(None)
    }
}
