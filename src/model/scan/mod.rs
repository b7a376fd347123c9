//! A pass over rows of a model, as batches of the weights table.

mod batch;
pub(crate) mod buffer_pool;
mod stored;
mod widen;

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::{
    Model,
    part::{Part, Run},
};
use crate::{
    storage::{digest::Digest, error::IoError},
    types::weights::weights_schema,
};
use buffer_pool::Pools;

/// Source bytes of a batch where nothing else is asked for: small enough for the second-level cache of a core together
/// with what is made of it (bf16 widens to twice as much), large enough that the cost per batch vanishes.
pub const BATCH_BYTES: usize = 1 << 19;

/// Rows of a batch at most, however short they are: the columns beside the data cost about 100 bytes a row.
const BATCH_ROWS: usize = 1 << 14;

/// Source bytes of a batch at most, so that 32-bit offsets hold the rows of any dtype.
const MOST_BATCH_BYTES: usize = 1 << 28;

/// Rows of tensors that do not follow each other in the file share a batch up to this many bytes, which are copied.
const COPY_BYTES: usize = 1 << 16;

/// The batches of a part, in the order of the rows.
///
/// Only the columns asked for are made: unless `weights` or `data` is among them, no byte of data is touched. Rows that
/// follow each other in their file are read at once, into the buffer that `data` then is. The batches are the same in every pass with
/// the same part and batch size.
#[derive(Debug)]
pub struct Scan {
    model: Arc<Model>,
    part: Part,
    projection: Vec<usize>,
    schema: SchemaRef,
    batch_bytes: usize,
    /// The run and the row in it that come next.
    next: (usize, usize),
    pools: Pools,
    /// The digest of the rows so far as they are stored, where it is asked for.
    digest: Option<Digest>,
}

impl Scan {
    /// A pass over a part. `projection` gives columns of [`weights_schema`] by number; a batch holds rows of about
    /// `batch_bytes` source bytes, or one row that is longer.
    ///
    /// # Errors
    /// A column that the schema does not have, or a part of another model.
    pub fn new(model: Arc<Model>, part: Part, projection: Vec<usize>, batch_bytes: usize) -> Result<Self, IoError> {
        let schema = weights_schema()
            .project(&projection)
            .map(Arc::new)
            .map_err(|error| IoError::Request(format!("the columns of a scan: {error}")))?;
        let fits = |run: &Run| {
            let tensor = model.tensors().get(run.tensor);
            tensor.is_some_and(|tensor| run.rows.start <= run.rows.end && run.rows.end <= tensor.rows)
        };
        if !part.runs.iter().all(fits) {
            return Err(IoError::Request("the part of a scan is not one of its model".to_owned()));
        }
        let start = part.runs.first().map_or(0, |run| run.rows.start);
        let batch_bytes = batch_bytes.clamp(1, MOST_BATCH_BYTES);
        Ok(Self {
            model,
            part,
            projection,
            schema,
            batch_bytes,
            next: (0, start),
            pools: Pools::default(),
            digest: None,
        })
    }

    /// The same pass, which digests the rows as they are stored, each whole, in their order.
    #[must_use]
    pub fn digesting(mut self) -> Self {
        self.digest = Some(Digest::default());
        self
    }

    /// The digest of the rows so far, in hex, where it is asked for.
    pub fn digest(&self) -> Option<String> {
        self.digest.as_ref().map(Digest::hex)
    }

    /// The schema of the batches.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The rows of the next batch, all of one file; none at the end.
    fn next_runs(&mut self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut bytes, mut rows, mut adjacent) = (0, 0, true);
        while let Some(run) = self.part.runs.get(self.next.0) {
            let tensor = &self.model.tensors()[run.tensor];
            let remaining = self.next.1..run.rows.end;
            if let Some(last) = runs.last() {
                let last_tensor = &self.model.tensors()[last.tensor];
                if last_tensor.file() != tensor.file() {
                    break;
                }
                let end = last_tensor.rows_range(&last.rows).end;
                adjacent &= last_tensor.is_plain() && tensor.is_plain() && end == tensor.rows_range(&remaining).start;
            }
            let room = if adjacent { self.batch_bytes } else { COPY_BYTES.min(self.batch_bytes) };
            let fitting = room.saturating_sub(bytes).checked_div(tensor.row_cost()).unwrap_or(usize::MAX);
            let least = usize::from(runs.is_empty());
            let count = remaining.len().min(BATCH_ROWS - rows).min(fitting.max(least));
            if count < remaining.len() && !runs.is_empty() {
                // A tensor that does not fit begins a batch of its own: its rows are then cut evenly.
                break;
            }
            bytes += count * tensor.row_cost();
            rows += count;
            runs.push(Run { tensor: run.tensor, rows: remaining.start..remaining.start + count });
            if count < remaining.len() {
                self.next.1 += count;
                break;
            }
            self.next = (self.next.0 + 1, self.part.runs.get(self.next.0 + 1).map_or(0, |run| run.rows.start));
        }
        runs
    }

    /// Asks for the bytes that the next batch is likely to be made of. Gives false where there is none.
    fn prepare(&self) -> bool {
        let Some(run) = self.part.runs.get(self.next.0) else { return false };
        let tensor = &self.model.tensors()[run.tensor];
        let start = tensor.rows_range(&(self.next.1..run.rows.end)).start;
        self.model.prefetch(tensor.file(), &(start..start + self.batch_bytes));
        true
    }
}

/// Returns the digest of a part as a [`Scan::digesting`] has it, without making batches. `goes_on` is asked before every
/// read; `None` means that it said no.
///
/// # Errors
/// A part of another model, or what reading gives.
pub fn digest_of_rows(model: &Arc<Model>, part: &Part, goes_on: impl Fn() -> bool) -> Result<Option<String>, IoError> {
    let mut scan = Scan::new(Arc::clone(model), part.clone(), Vec::new(), BATCH_BYTES)?;
    let mut digest = Digest::default();
    loop {
        let runs = scan.next_runs();
        match (runs.is_empty(), goes_on()) {
            (true, _) => return Ok(Some(digest.hex())),
            (false, false) => return Ok(None),
            (false, true) => {
                scan.prepare();
                batch::add_stored(model, &runs, &scan.pools.stored, &mut digest)?;
            }
        }
    }
}

/// Rows of one tensor as one batch, columns of [`weights_schema`] by number.
///
/// # Errors
/// A column that the schema does not have, rows that the tensor does not have, or what reading gives.
pub fn rows_of(model: &Model, run: Run, projection: &[usize]) -> Result<RecordBatch, IoError> {
    let schema = weights_schema().project(projection).map_err(IoError::arrow(model.folder()))?;
    let known = model.tensors().get(run.tensor).is_some_and(|tensor| run.rows.end <= tensor.rows);
    if !known || run.rows.start > run.rows.end {
        return Err(IoError::Request("the rows asked for are not those of the model".to_owned()));
    }
    // Who asks for rows of an output folder is likely to ask for those after them: their reader waits.
    let continues = model.part_rows().is_some();
    batch::batch(model, &[run], continues, projection, &Arc::new(schema), &Pools::default(), None)
}

impl Iterator for Scan {
    type Item = Result<RecordBatch, IoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let runs = self.next_runs();
        if runs.is_empty() {
            return None;
        }
        let continues = batch::reads_data(&self.projection) && self.prepare();
        let digest = self.digest.as_mut();
        let batch = batch::batch(&self.model, &runs, continues, &self.projection, &self.schema, &self.pools, digest);
        if batch.is_err() {
            self.next.0 = self.part.runs.len();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
