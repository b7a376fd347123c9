//! The check after writing a format without parts of its own, on as many threads as wrote.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    Cancel, RunError,
    plan::Plan,
    progress::{Pass, Progress},
    read_back::{check_part, check_sums},
    workers::take_parts,
};
use crate::{
    model::{Model, part::Part},
    output::folder::OutputFolder,
    plan::{equalization::changes::Equalization, formats::export::Export},
    storage::{error::IoError, folder::tensor_report::TensorReport},
    types::ErrorSums,
};

/// The error sums of a part's tensors, by number.
type ReadBack = Result<BTreeMap<usize, ErrorSums>, IoError>;

/// A folder that is about to be finished.
pub struct Written<'a> {
    pub export: &'a Export,
    pub equalization: Option<&'a Equalization>,
    pub folder: &'a OutputFolder,
    /// The reports that the rows must match.
    pub reports: &'a [TensorReport],
}

impl Plan {
    /// Reads back every tensor of a folder, and verifies it.
    pub(super) fn check(
        &self,
        written: &Written<'_>,
        threads: usize,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), RunError> {
        let (folder, meant) = (written.folder, written.reports);
        let output = folder.open()?;
        let failed = AtomicBool::new(false);
        let watch = |bytes| {
            progress.advance(bytes);
            !cancel.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed)
        };
        let check = |part: usize| Ok(self.check_one(written, &output, &self.parts[part], watch)?);
        let every: Vec<usize> = (0..self.parts.len()).collect();
        progress.start(Pass::Check, self.part_bytes());
        let results = take_parts(&every, threads, &failed, check, Ok);
        progress.finish();
        if cancel.load(Ordering::Relaxed) {
            return Err(RunError::Cancelled(folder.partial().to_owned()));
        }
        let mut read: BTreeMap<usize, ErrorSums> = BTreeMap::new();
        for (_, part) in results? {
            for (tensor, sums) in part {
                read.entry(tensor).and_modify(|sum| *sum = sum.merge(sums)).or_insert(sums);
            }
        }
        check_sums(&output, meant, &read)?;
        Ok(())
    }

    fn check_one(
        &self,
        written: &Written<'_>,
        output: &Model,
        part: &Part,
        watch: impl FnMut(u64) -> bool,
    ) -> ReadBack {
        let importance = self.spec.activations.is_some();
        let place = |tensor| written.export.written(&self.model, tensor, written.equalization, importance);
        check_part(&self.model, output, part, written.reports, place, watch)
    }
}
