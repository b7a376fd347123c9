//! The small side of a join in memory, in which the rows of the other are looked up.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::{
    compute::{concat_batches, take},
    row::{RowConverter, SortField},
};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::SchemaRef;
use datafusion::{
    common::{JoinType, Result, utils::memory::get_record_batch_memory_size},
    execution::memory_pool::MemoryReservation,
    physical_expr::PhysicalExpr,
    physical_plan::{ExecutionPlan, joins::HashJoinExec},
};

use crate::sql::memory::held_once;

/// The left side, and where its keys are.
#[derive(Debug)]
pub struct Lookup {
    rows: RecordBatch,
    converter: RowConverter,
    /// The rows of each key, by the key's bytes.
    places: HashMap<Box<[u8]>, Vec<u32>>,
    _reservation: MemoryReservation,
}

/// The memory that a key takes besides its bytes, about.
const KEY_OVERHEAD: usize = 96;

impl Lookup {
    /// Makes the left side of batches; the reservation is resized to what it takes.
    ///
    /// # Errors
    /// Returns an error if keys cannot be computed, or there is not enough memory left.
    pub fn try_new(join: &HashJoinExec, batches: &[RecordBatch], reservation: MemoryReservation) -> Result<Self> {
        let rows = concat_batches(&join.left().schema(), batches)?;
        let keys = evaluate(join.on().iter().map(|(left, _)| left), &rows)?;
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let mut places: HashMap<Box<[u8]>, Vec<u32>> = HashMap::new();
        let encoded = converter.convert_columns(&keys)?;
        let keys_bytes = encoded.size() + rows.num_rows() * KEY_OVERHEAD;
        reservation.try_resize(held_once(get_record_batch_memory_size(&rows) + keys_bytes))?;
        for (row, key) in encoded.iter().enumerate() {
            // NULL equals nothing.
            if keys.iter().all(|column| column.is_valid(row)) {
                places.entry(key.as_ref().into()).or_default().push(row as u32);
            }
        }
        Ok(Self { rows, converter, places, _reservation: reservation })
    }

    /// Returns a batch of the right side with what it finds here.
    ///
    /// # Errors
    /// Returns an error if keys cannot be computed.
    pub fn join(&self, join: &HashJoinExec, batch: &RecordBatch) -> Result<RecordBatch> {
        let keys = evaluate(join.on().iter().map(|(_, right)| right), batch)?;
        let outer = *join.join_type() == JoinType::Right;
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for (row, key) in self.converter.convert_columns(&keys)?.iter().enumerate() {
            match self.places.get(key.as_ref()) {
                Some(places) => {
                    left.extend(places.iter().copied().map(Some));
                    right.extend(std::iter::repeat_n(row as u32, places.len()));
                }
                None if outer => {
                    left.push(None);
                    right.push(row as u32);
                }
                None => {}
            }
        }
        let (left, right) = (UInt32Array::from(left), UInt32Array::from(right));
        let (left_run, right_run) = (run(&left), run(&right));
        let widths = self.rows.num_columns();
        let column = |index: usize| -> Result<ArrayRef> {
            let (column, rows, run) = match index.checked_sub(widths) {
                None => (self.rows.column(index), &left, &left_run),
                Some(index) => (batch.column(index), &right, &right_run),
            };
            Ok(match run {
                Some(run) => column.slice(run.start, run.len()),
                None => take(column, rows, None)?,
            })
        };
        let schema: SchemaRef = join.schema();
        let columns = match &join.projection {
            Some(projection) => projection.iter().map(|index| column(*index)).collect::<Result<_>>()?,
            None => (0..schema.fields().len()).map(column).collect::<Result<_>>()?,
        };
        let options = RecordBatchOptions::new().with_row_count(Some(right.len()));
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}

/// Returns the rows as a range, where they follow each other.
fn run(rows: &UInt32Array) -> Option<Range<usize>> {
    let follow = rows.null_count() == 0 && rows.values().windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let first = rows.values().first().map_or(0, |first| *first as usize);
    follow.then(|| first..first + rows.len())
}

fn evaluate<'a>(keys: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    keys.map(|key| key.evaluate(batch)?.into_array(batch.num_rows())).collect()
}
