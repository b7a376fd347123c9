//! Rows that are kept: their memory is reserved until nobody holds them.
//!
//! `DataFusion` reserves nothing for the rows of a table in memory, nor for those that a window function holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use arrow::array::{ArrayData, make_array};
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer};
use datafusion::{
    common::{
        Result,
        config::ConfigOptions,
        tree_node::{Transformed, TransformedResult, TreeNode},
    },
    datasource::sink::DataSinkExec,
    execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation},
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{
        ExecutionPlan,
        execution_plan::replace_children_if_necessary,
        windows::{BoundedWindowAggExec, WindowAggExec},
    },
};
use futures::StreamExt;

use super::{memory::held_once, pass_exec::PassExec};

/// Reserves the memory of batches, each buffer once, for as long as an array uses it.
pub struct Keeper {
    /// Empty; those of the buffers come from it.
    reservation: MemoryReservation,
    /// The buffers that have been seen, by where they begin.
    held: Mutex<HashMap<usize, Weak<MemoryReservation>>>,
}

/// A buffer and its reservation.
struct Kept {
    buffer: Buffer,
    _reservation: Arc<MemoryReservation>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Keeper {
    /// Returns a keeper that reserves from `pool`, under a name that errors tell.
    pub fn new(pool: &Arc<dyn MemoryPool>, name: &str) -> Self {
        Self { reservation: MemoryConsumer::new(name).register(pool), held: Mutex::default() }
    }

    /// Returns the batch, of the same buffers, none of which is copied.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory left.
    pub fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().map(|column| Ok(make_array(self.data(&column.to_data())?)));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(batch.schema(), columns.collect::<Result<_>>()?, &options)?)
    }

    fn data(&self, data: &ArrayData) -> Result<ArrayData> {
        let buffers = data.buffers().iter().map(|buffer| self.buffer(buffer)).collect::<Result<_>>()?;
        let children = data.child_data().iter().map(|child| self.data(child)).collect::<Result<_>>()?;
        let nulls = data.nulls().map(|nulls| {
            let (bits, offset) = (nulls.inner(), nulls.offset());
            Ok::<_, datafusion::common::DataFusionError>(NullBuffer::new(BooleanBuffer::new(
                self.buffer(bits.inner())?,
                offset,
                bits.len(),
            )))
        });
        Ok(data.clone().into_builder().buffers(buffers).child_data(children).nulls(nulls.transpose()?).build()?)
    }

    fn buffer(&self, buffer: &Buffer) -> Result<Buffer> {
        if buffer.capacity() == 0 {
            return Ok(buffer.clone());
        }
        let kept = Kept { buffer: buffer.clone(), _reservation: self.reservation(buffer)? };
        Ok(bytes::Bytes::from_owner(kept).into())
    }

    /// Returns the reservation of a buffer: that which is there already if it is a slice of one that was seen.
    fn reservation(&self, buffer: &Buffer) -> Result<Arc<MemoryReservation>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = buffer.data_ptr().addr().get();
        if let Some(there) = held.get(&begin).and_then(Weak::upgrade) {
            return Ok(there);
        }
        let reservation = self.reservation.new_empty();
        reservation.try_grow(held_once(buffer.capacity()))?;
        if held.len() == held.capacity() {
            held.retain(|_, reservation| reservation.strong_count() > 0);
        }
        let reservation = Arc::new(reservation);
        held.insert(begin, Arc::downgrade(&reservation));
        Ok(reservation)
    }
}

/// Reserves the memory of the rows that window functions hold, and of those that are inserted into a table. A file lets
/// go of them when they are written, a table in memory does not.
#[derive(Debug, Default)]
pub struct KeepRows;

impl PhysicalOptimizerRule for KeepRows {
    fn name(&self) -> &'static str {
        "keep_rows"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|plan| {
            let Some(name) = keeps(plan.as_ref()) else { return Ok(Transformed::no(plan)) };
            let children = plan.children().into_iter().map(|child| keep(Arc::clone(child), name)).collect();
            Ok(Transformed::yes(replace_children_if_necessary(plan, children)?))
        })
        .data()
    }
}

/// Returns what an error calls an operator that may keep its rows without reserving memory for them.
fn keeps(plan: &dyn ExecutionPlan) -> Option<&'static str> {
    if plan.is::<WindowAggExec>() || plan.is::<BoundedWindowAggExec>() {
        Some("Window")
    } else if plan.is::<DataSinkExec>() {
        Some("Insert")
    } else {
        None
    }
}

/// Returns a node over `input` whose batches have their memory reserved, under a name that errors tell.
pub fn keep(input: Arc<dyn ExecutionPlan>, name: &'static str) -> Arc<dyn ExecutionPlan> {
    PassExec::over(input, "KeepExec", move |batches, context| {
        let keeper = Keeper::new(context.memory_pool(), name);
        batches.map(move |batch| keeper.keep(&batch?)).boxed()
    })
}
