//! The columns of one batch of the weights table.

use std::{ops::Range, sync::Arc};

use arrow_array::{ArrayRef, BinaryArray, Int32Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};

use super::{Run, pool::Pool, widen};
use crate::{
    io::{IoError, Model, Tensor, model::shapes},
    types::weights::{CHANNEL, DATA, DTYPE, LAYER, MODULE, NAME, SHAPE, WEIGHTS, weights_schema},
};

/// Whether one of the columns is made of data.
pub fn reads_data(projection: &[usize]) -> bool {
    let schema = weights_schema();
    projection.iter().any(|column| [WEIGHTS, DATA].contains(&schema.field(*column).name().as_str()))
}

/// The batch of some rows of one file.
pub fn batch(
    model: &Model,
    runs: &[Run],
    projection: &[usize],
    schema: &SchemaRef,
    pool: &Pool,
) -> Result<RecordBatch, IoError> {
    let Some(first) = runs.first() else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
    let path = &model.file_of(&model.tensors()[first.tensor]).path;
    let bytes = if reads_data(projection) { Some(Bytes::of(model, runs)?) } else { None };
    let every = weights_schema();
    let mut columns = Vec::with_capacity(projection.len());
    for column in projection {
        let name = every.field(*column).name().as_str();
        let array = match (&bytes, name) {
            (Some(bytes), WEIGHTS) => weights(model, runs, bytes, pool)?,
            (Some(bytes), DATA) => data(model, runs, bytes)?,
            _ => label(model, runs, name).map_err(IoError::arrow(path))?,
        };
        columns.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(runs.iter().map(|run| run.rows.len()).sum()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(IoError::arrow(path))
}

/// A column that the header alone gives.
fn label(model: &Model, runs: &[Run], name: &str) -> Result<ArrayRef, ArrowError> {
    let counts = || runs.iter().map(|run| (run.tensor, run.rows.len()));
    let labels = model.labels();
    Ok(match name {
        NAME => Arc::new(labels.names.repeated(counts())?),
        MODULE => Arc::new(labels.modules.repeated(counts())?),
        DTYPE => Arc::new(labels.dtypes.repeated(counts())?),
        SHAPE => Arc::new(shapes(counts().map(|(tensor, count)| (&model.tensors()[tensor], count)))?),
        LAYER => {
            let layers = counts().flat_map(|(tensor, count)| std::iter::repeat_n(model.tensors()[tensor].layer, count));
            Arc::new(layers.collect::<Int32Array>())
        }
        CHANNEL => Arc::new(Int64Array::from_iter_values(
            runs.iter().flat_map(|run| run.rows.clone()).map(|channel| channel as i64),
        )),
        other => return Err(ArrowError::SchemaError(format!("the weights table has no column {other}"))),
    })
}

/// The bytes of a batch: the rows of all runs one after the other, and where each run's begin.
struct Bytes {
    buffer: Buffer,
    ranges: Vec<Range<usize>>,
}

impl Bytes {
    fn of(model: &Model, runs: &[Run]) -> Result<Self, IoError> {
        let places: Vec<(usize, Range<usize>)> = runs
            .iter()
            .map(|run| {
                let tensor = &model.tensors()[run.tensor];
                (tensor.file, tensor.rows_range(&run.rows))
            })
            .collect();
        let mut ranges = Vec::with_capacity(places.len());
        let mut end = 0;
        for (_, place) in &places {
            ranges.push(end..end + place.len());
            end += place.len();
        }
        let adjacent = places.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1.end == pair[1].1.start);
        let buffer = match &places[..] {
            [] => Buffer::default(),
            [(file, first), ..] if adjacent => model.buffer(*file, first.start..first.start + end)?,
            _ => {
                let mut bytes = Vec::with_capacity(end);
                for (file, place) in places {
                    bytes.extend_from_slice(&model.buffer(file, place)?);
                }
                Buffer::from_vec(bytes)
            }
        };
        Ok(Self { buffer, ranges })
    }
}

/// The rows as stored.
fn data(model: &Model, runs: &[Run], bytes: &Bytes) -> Result<ArrayRef, IoError> {
    let lengths = |tensor: &Tensor| tensor.row_bytes();
    let offsets = offsets(model, runs, lengths, "bytes")?;
    Ok(Arc::new(BinaryArray::new(offsets, bytes.buffer.clone(), None)))
}

/// The rows widened to f32; null where the dtype is not a float.
fn weights(model: &Model, runs: &[Run], bytes: &Bytes, pool: &Pool) -> Result<ArrayRef, IoError> {
    let length = |tensor: &Tensor| if tensor.dtype.is_float() { tensor.row_length } else { 0 };
    let offsets = offsets(model, runs, length, "elements")?;
    let values = pool.array(offsets.last().map_or(0, |last| *last as usize), |mut rest| {
        for (run, range) in runs.iter().zip(&bytes.ranges) {
            let tensor = &model.tensors()[run.tensor];
            if tensor.dtype.is_float() {
                let (out, after) = rest.split_at_mut(run.rows.len() * tensor.row_length);
                widen::rows(model, run, &bytes.buffer[range.clone()], out)?;
                rest = after;
            }
        }
        Ok::<_, IoError>(())
    })?;
    let floats = || runs.iter().map(|run| (model.tensors()[run.tensor].dtype.is_float(), run.rows.len()));
    let nulls = floats()
        .any(|(float, _)| !float)
        .then(|| floats().flat_map(|(float, count)| std::iter::repeat_n(float, count)).collect::<NullBuffer>());
    let field = Arc::new(Field::new_list_field(DataType::Float32, true));
    Ok(Arc::new(ListArray::new(field, offsets, Arc::new(values), nulls)))
}

/// The offsets of rows of some length each.
fn offsets(
    model: &Model,
    runs: &[Run],
    length: impl Fn(&Tensor) -> usize,
    unit: &str,
) -> Result<OffsetBuffer<i32>, IoError> {
    let mut offsets = Vec::with_capacity(1 + runs.iter().map(|run| run.rows.len()).sum::<usize>());
    let mut end = 0i32;
    offsets.push(end);
    for run in runs {
        let tensor = &model.tensors()[run.tensor];
        let length = length(tensor);
        for _ in run.rows.clone() {
            end = i32::try_from(length).ok().and_then(|length| end.checked_add(length)).ok_or_else(|| {
                let path = &model.file_of(tensor).path;
                let problem = format!("a row of {length} {unit} is too long; at most {} are read", i32::MAX);
                IoError::tensor(path, &tensor.name, problem)
            })?;
            offsets.push(end);
        }
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}
