//! A function over rows, shared out to threads, its results gathered in one array without holding two copies of them.

use std::{error::Error, ops::Range, sync::OnceLock};

use arrow::array::{Array, ArrayData, ArrayRef, make_array};
use arrow_array::cast::AsArray;
use arrow_buffer::{Buffer, MutableBuffer, NullBufferBuilder};
use arrow_schema::DataType;
use rayon::{ThreadPoolBuilder, prelude::*};

use crate::compute::ComputeError;

/// Bytes of source in a block, about: a block is what one thread does at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// Blocks per thread in a round. Results are gathered after each round, so that no more than a round is held twice.
const BLOCKS_PER_THREAD: usize = 4;

/// Runs `function` over the rows `0..rows`, in blocks, on rayon's threads. What it gives for a block must depend on
/// the rows of the block alone. `bytes` says how many a range of rows takes, to choose the size of a block and to tell
/// from the first one how large the result will be. An error counts rows from row 0.
///
/// # Errors
/// Returns the first error of `function` in the order of rows, or an error if the result would pass what one array
/// holds.
pub fn by_blocks(
    rows: usize,
    bytes: impl Fn(Range<usize>) -> usize,
    function: impl Fn(Range<usize>) -> Result<ArrayRef, ComputeError> + Sync,
) -> Result<ArrayRef, ComputeError> {
    if rows > i32::MAX as usize {
        return Err(ComputeError::Overflow { what: "the rows of an array", limit: i32::MAX as usize });
    }
    let threads = threads()?;
    let size = &bytes;
    let bytes = size(0..rows);
    let block = (BLOCK_BYTES / (bytes / rows.max(1)).max(1)).max(1);
    if threads == 1 && bytes <= BLOCK_BYTES || rows <= block {
        return function(0..rows);
    }
    let round = threads * BLOCKS_PER_THREAD * block;
    let mut gathered: Option<Column> = None;
    for start in (0..rows).step_by(round) {
        let end = (start + round).min(rows);
        let starts: Vec<usize> = (start..end).step_by(block).collect();
        let blocks: Vec<_> = starts
            .into_par_iter()
            .map(|start| function(start..(start + block).min(end)).map_err(|error| error.offset(start)))
            .collect();
        for array in blocks {
            let array = array?;
            // The first block says what room all will need, nearly; what is not touched costs nothing, but to grow would
            // be a copy.
            let gathered = gathered.get_or_insert_with(|| {
                let times = 1.01 * bytes as f64 / size(0..array.len()).max(1) as f64;
                Column::like(&array.to_data(), times, rows)
            });
            gathered.append(&array)?;
        }
    }
    gathered.map_or_else(|| function(0..0), Column::finish)
}

/// Returns how many threads there are: those of the pool that calls, or of the process.
///
/// # Errors
/// Returns an error if the system refuses a thread, which rayon by itself answers with a panic.
fn threads() -> Result<usize, ComputeError> {
    static REFUSED: OnceLock<Option<String>> = OnceLock::new();
    if rayon::current_thread_index().is_none() {
        // An error without a source says that the process has its threads already.
        let start = || ThreadPoolBuilder::new().build_global().err()?.source().map(ToString::to_string);
        if let Some(reason) = REFUSED.get_or_init(start) {
            return Err(ComputeError::Threads(reason.clone()));
        }
    }
    Ok(rayon::current_num_threads())
}

/// Returns the bytes that a range of the rows of an array takes; 0 for types that do not tell.
pub fn memory_size(array: &ArrayRef, rows: Range<usize>) -> usize {
    array.slice(rows.start, rows.len()).to_data().get_slice_memory_size().unwrap_or_default()
}

/// An array in the making, to which arrays of its type are appended.
struct Column {
    data_type: DataType,
    len: usize,
    nulls: NullBufferBuilder,
    /// Fixed-width values, or the bytes of a binary column.
    bytes: MutableBuffer,
    /// Ends of lists or of bytes.
    offsets: Option<Vec<i32>>,
    children: Vec<Column>,
}

impl Column {
    /// Returns an empty column of the type of `data`, with room for `times` as much, and for `rows` offsets.
    fn like(data: &ArrayData, times: f64, rows: usize) -> Self {
        let offsets = matches!(data.data_type(), DataType::List(_) | DataType::Binary);
        let bytes = data.buffers().last().map_or(0, Buffer::len);
        Self {
            data_type: data.data_type().clone(),
            len: 0,
            nulls: NullBufferBuilder::new(rows),
            bytes: MutableBuffer::with_capacity((bytes as f64 * times) as usize),
            offsets: offsets.then(|| {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                offsets
            }),
            children: data.child_data().iter().map(|child| Self::like(child, times, rows)).collect(),
        }
    }

    fn append(&mut self, array: &dyn Array) -> Result<(), ComputeError> {
        self.len += array.len();
        match array.nulls() {
            Some(nulls) => self.nulls.append_buffer(nulls),
            None => self.nulls.append_n_non_nulls(array.len()),
        }
        match &self.data_type {
            DataType::Struct(_) => {
                for (column, child) in self.children.iter_mut().zip(array.as_struct().columns()) {
                    column.append(child)?;
                }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let (first, last) = self.append_offsets(list.value_offsets())?;
                self.children[0].append(&list.values().slice(first, last - first))?;
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                let (first, last) = self.append_offsets(binary.value_offsets())?;
                self.bytes.extend_from_slice(&binary.value_data()[first..last]);
            }
            other => {
                let width = other.primitive_width().ok_or_else(|| {
                    ComputeError::InvalidArgument(format!("results of type {other} cannot be gathered"))
                })?;
                let data = array.to_data();
                let (start, end) = (data.offset() * width, (data.offset() + data.len()) * width);
                self.bytes.extend_from_slice(&data.buffers()[0].as_slice()[start..end]);
            }
        }
        Ok(())
    }

    /// Appends offsets, counted on from what is there; gives the range of elements that they span.
    fn append_offsets(&mut self, offsets: &[i32]) -> Result<(usize, usize), ComputeError> {
        let (Some(mine), [first, .., last] | [first @ last]) = (&mut self.offsets, offsets) else { return Ok((0, 0)) };
        let end = mine.last().copied().unwrap_or_default();
        if end.checked_add(last - first).is_none() {
            return Err(ComputeError::Overflow { what: "the elements of an array", limit: i32::MAX as usize });
        }
        mine.extend(offsets[1..].iter().map(|offset| end + (offset - first)));
        Ok((*first as usize, *last as usize))
    }

    fn finish(self) -> Result<ArrayRef, ComputeError> {
        Ok(make_array(self.finish_data()?))
    }

    fn finish_data(mut self) -> Result<ArrayData, ComputeError> {
        let mut data = ArrayData::builder(self.data_type.clone()).len(self.len).nulls(self.nulls.finish());
        if let Some(offsets) = self.offsets {
            data = data.add_buffer(Buffer::from_vec(offsets));
        }
        if !matches!(self.data_type, DataType::Struct(_) | DataType::List(_)) {
            data = data.add_buffer(self.bytes.into());
        }
        for child in self.children {
            data = data.add_child_data(child.finish_data()?);
        }
        Ok(data.build()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        compute::{dequantize, error_stats, quantize, sqnr},
        testing::{arrays::list, samples},
        types::{Bits, QuantizeOptions},
    };

    type Function<'a> = Box<dyn Fn(Range<usize>) -> Result<ArrayRef, ComputeError> + Sync + 'a>;

    #[test]
    fn gathered_results_are_those_of_one_call_on_any_number_of_threads() {
        let rows: Vec<_> = (0..300).map(|i| samples::heavy(7000 + i % 70, i as u64)).collect();
        let rows: Vec<_> = rows.iter().enumerate().map(|(i, row)| (i % 9 != 4).then_some(&row[..])).collect();
        let weights = list(&rows);
        let options = QuantizeOptions::new(Bits::Three).into();
        let quantized = quantize(&weights, &options).unwrap();
        let functions: [Function; 4] = [
            Box::new(|rows| quantize(&weights.slice(rows.start, rows.len()), &options)),
            Box::new(|rows| dequantize(&quantized.slice(rows.start, rows.len()))),
            Box::new(|rows| {
                error_stats(&weights.slice(rows.start, rows.len()), &quantized.slice(rows.start, rows.len()))
            }),
            Box::new(|rows| {
                let (a, b) = (weights.slice(rows.start, rows.len()), quantized.slice(rows.start, rows.len()));
                Ok(Arc::new(sqnr(&a, &b)?))
            }),
        ];
        for function in functions {
            let want = function(0..300).unwrap();
            for threads in [1, 2, 7] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let got = pool.install(|| by_blocks(300, |rows| memory_size(&weights, rows), &function)).unwrap();
                assert_eq!(&got, &want);
            }
        }
    }

    #[test]
    fn no_rows_give_an_empty_array_and_errors_count_from_the_first_row() {
        let empty = list(&[]);
        let options = QuantizeOptions::new(Bits::Four).into();
        let got = by_blocks(0, |_| 0, |rows| quantize(&empty.slice(rows.start, rows.len()), &options)).unwrap();
        assert_eq!(got.len(), 0);
        let good = samples::heavy(9000, 1);
        let mut bad = good.clone();
        bad[17] = f32::NAN;
        let mut rows = vec![Some(&good[..]); 200];
        rows[150] = Some(&bad);
        rows[180] = Some(&bad);
        let weights = list(&rows);
        let call = |rows: Range<usize>| quantize(&weights.slice(rows.start, rows.len()), &options);
        let error = by_blocks(200, |rows| memory_size(&weights, rows), call).unwrap_err();
        assert_eq!(error.to_string(), "row 150, element 17 is NaN; only finite values are accepted");
        let error = by_blocks(1 << 40, |_| 0, call).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the rows of an array would pass 2147483647, the most that one array holds; use smaller batches"
        );
    }
}
