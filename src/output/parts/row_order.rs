//! The rows of a part, one after the other: each that is written must be the one that comes next.

use std::path::Path;

use crate::storage::{
    error::IoError,
    folder::manifest::{Manifest, PartEntry},
};

/// The rows of a part that are still to come.
#[derive(Debug)]
pub struct RowOrder {
    /// The tensor, channel and end of each run, last first.
    expected: Vec<(String, usize, usize)>,
}

impl RowOrder {
    pub fn new(manifest: &Manifest, part: &PartEntry) -> Self {
        let run = |(tensor, start, end): &(usize, usize, usize)| (manifest.tensors[*tensor].name.clone(), *start, *end);
        Self { expected: part.rows.iter().rev().filter(|(_, start, end)| start < end).map(run).collect() }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// Returns an error if the row is another.
    pub fn next(&mut self, path: &Path, name: &str, channel: i64) -> Result<(), IoError> {
        let Some((expected, next, end)) = self.expected.last_mut() else {
            return Err(IoError::tensor(path, name, format!("its row {channel} comes after the last of the part")));
        };
        if name != expected || usize::try_from(channel) != Ok(*next) {
            let problem = format!("its row {channel} comes where row {next} of '{expected}' belongs");
            return Err(IoError::tensor(path, name, problem));
        }
        *next += 1;
        if next == end {
            self.expected.pop();
        }
        Ok(())
    }

    /// Checks that every row of the part came.
    ///
    /// # Errors
    /// Returns an error if rows are missing.
    pub fn finish(&self, path: &Path) -> Result<(), IoError> {
        match self.expected.last() {
            None => Ok(()),
            Some((name, next, _)) => {
                Err(IoError::tensor(path, name, format!("its row {next} is missing from the part")))
            }
        }
    }
}
