//! The rows of an output folder by tensor, wherever they lie in its parts.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use arrow::compute::concat_batches;
use arrow_array::{Array, BinaryArray, RecordBatch, StructArray, cast::AsArray};

use super::output_folder::QuantizedModel;
use crate::{
    compute::{ComputeError, QuantizedArray, QuantizedRow},
    storage::{error::IoError, folder::part_reader::PartReader},
    types::{output::output_schema, quantized::QUANTIZED, weights::DATA},
};

/// Readers that wait for the rows after those that they gave last.
const WAITING: usize = 32;

/// A folder whose rows are read by tensor.
#[derive(Debug)]
pub struct PartRows {
    model: QuantizedModel,
    /// For each tensor, its runs: the part, the part's rows before it, and the tensor's own rows.
    runs: Vec<Vec<(usize, usize, Range<usize>)>>,
    waiting: Mutex<Vec<Waiting>>,
    /// True for each part whose digest has been checked. Others wait for a check in progress.
    verified: Vec<Mutex<bool>>,
}

/// A reader, the row of its part that comes next, and rows that it has given already.
struct Waiting {
    part: usize,
    next: usize,
    reader: PartReader,
    left: Option<RecordBatch>,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {} of part {}", self.next, self.part)
    }
}

impl PartRows {
    pub fn new(model: QuantizedModel) -> Self {
        let mut runs = vec![Vec::new(); model.tensors().len()];
        for (part, entry) in model.manifest().parts.iter().enumerate() {
            let mut before = 0;
            for (tensor, start, end) in &entry.rows {
                runs[*tensor].push((part, before, *start..*end));
                before += end - start;
            }
        }
        let verified = (0..model.parts()).map(|_| Mutex::new(false)).collect();
        Self { model, runs, waiting: Mutex::default(), verified }
    }

    /// Lets go of the tensors whose numbers are not to be kept; the others follow each other.
    pub fn retain(&mut self, kept: &[bool]) {
        let mut kept = kept.iter();
        self.runs.retain(|_| kept.next().is_none_or(|kept| *kept));
    }

    /// Returns the rows of a tensor: columns `quantized` and `data`. `continues`: the rows after them are likely to be
    /// asked for next, and what reads them waits.
    ///
    /// # Errors
    /// Returns an error if a part cannot be read, or is not the one that was written.
    pub fn rows(&self, tensor: usize, rows: &Range<usize>, continues: bool) -> Result<RecordBatch, IoError> {
        let mut batches = Vec::new();
        for (part, before, held) in &self.runs[tensor] {
            let (start, end) = (rows.start.max(held.start), rows.end.min(held.end));
            if start < end {
                let first = before + start - held.start;
                self.rows_of_part(*part, first..first + end - start, continues, &mut batches)?;
            }
        }
        let schema = output_schema().project(&COLUMNS).map_err(IoError::arrow(self.model.folder()))?;
        concat_batches(&schema.into(), &batches).map_err(IoError::arrow(self.model.folder()))
    }

    fn rows_of_part(
        &self,
        part: usize,
        rows: Range<usize>,
        continues: bool,
        out: &mut Vec<RecordBatch>,
    ) -> Result<(), IoError> {
        let mut reader = self.reader(part, rows.start)?;
        let mut needed = rows.len();
        let mut skip = rows.start - reader.next;
        while needed > 0 {
            let batch = match reader.left.take() {
                Some(batch) => batch,
                None => reader.reader.next().ok_or_else(|| {
                    let file = self.model.folder().join(&self.model.manifest().parts[part].file);
                    IoError::file(&file, "has fewer rows than the manifest says")
                })??,
            };
            let (from, rows) = (skip.min(batch.num_rows()), batch.num_rows());
            let taken = (rows - from).min(needed);
            skip -= from;
            if taken > 0 {
                out.push(batch.slice(from, taken));
            }
            needed -= taken;
            reader.next += from + taken;
            if from + taken < rows {
                reader.left = Some(batch.slice(from + taken, rows - from - taken));
            }
        }
        if continues {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.len() >= WAITING {
                waiting.remove(0);
            }
            waiting.push(reader);
        }
        Ok(())
    }

    /// Returns a reader that stands at or before a row: one that waits there, or a new one.
    fn reader(&self, part: usize, row: usize) -> Result<Waiting, IoError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = waiting.iter().position(|reader| reader.part == part && reader.next == row) {
            return Ok(waiting.remove(at));
        }
        drop(waiting);
        let mut verified = self.verified[part].lock().unwrap_or_else(PoisonError::into_inner);
        if !*verified {
            self.model.verify(part)?;
            *verified = true;
        }
        drop(verified);
        let reader = self.model.open_part_near(part, &COLUMNS, row)?;
        Ok(Waiting { part, next: reader.first(), reader, left: None })
    }
}

/// `quantized` and `data` among the columns of a part.
const COLUMNS: [usize; 2] = [5, 6];

/// Appends the bytes of each row as stored, and where each ends: of a quantized one its scale, scale codes, zero points and codes.
/// Returns true if all rows of a tensor have as many bytes: none is entropy-coded.
///
/// # Errors
/// Returns an error if a row, counted from the start of the batch, is no quantized value and has no data.
pub fn append_stored(batch: &RecordBatch, bytes: &mut Vec<u8>, ends: &mut Vec<usize>) -> Result<bool, ComputeError> {
    let (quantized, data) = columns(batch).map_err(ComputeError::InvalidArgument)?;
    let rows = QuantizedArray::try_new(quantized)?;
    let mut fixed = true;
    for row in 0..batch.num_rows() {
        match rows.row(row)? {
            Some(QuantizedRow::Packed { params, codes, .. }) => {
                bytes.extend_from_slice(&params.row_scale.to_le_bytes());
                bytes.extend_from_slice(params.scales);
                bytes.extend_from_slice(params.zero_points.unwrap_or_default());
                bytes.extend_from_slice(codes);
            }
            Some(QuantizedRow::Entropy(value)) => {
                fixed = false;
                bytes.extend_from_slice(&value.step.to_le_bytes());
                bytes.extend_from_slice(value.codes);
            }
            None if data.is_valid(row) => bytes.extend_from_slice(data.value(row)),
            None => return Err(ComputeError::Corrupt { row, reason: "it is null, and so are its data".to_owned() }),
        }
        ends.push(bytes.len());
    }
    Ok(fixed)
}

/// Returns the columns of what [`PartRows::rows`] gives.
pub fn columns(batch: &RecordBatch) -> Result<(&StructArray, &BinaryArray), String> {
    let quantized = batch.column_by_name(QUANTIZED).and_then(|column| column.as_struct_opt());
    let data = batch.column_by_name(DATA).and_then(|column| column.as_binary_opt::<i32>());
    quantized.zip(data).ok_or_else(|| "has no columns quantized and data of the right types".to_owned())
}
