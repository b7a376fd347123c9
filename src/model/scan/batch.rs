//! The columns of one batch of the weights table.

use std::{ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BinaryArray, Float32Array, Int32Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions,
    cast::AsArray, types::Float32Type,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef};

use super::{
    buffer_pool::{Pool, Pools},
    stored::{check_parts, copy_parts, copy_rows, stored_row_bytes},
    widen,
};
use crate::{
    compute::{dequantize, encode_as},
    model::{Model, labels::shapes, part::Run, part_rows::columns, tensor::Tensor},
    storage::{digest::Digest, error::IoError},
    types::{
        Encoding,
        weights::{CHANNEL, DATA, DTYPE, LAYER, MODULE, NAME, SHAPE, WEIGHTS, weights_schema},
    },
};

/// Returns true if one of the columns is made of data.
pub fn reads_data(projection: &[usize]) -> bool {
    let schema = weights_schema();
    projection.iter().any(|column| [WEIGHTS, DATA].contains(&schema.field(*column).name().as_str()))
}

/// Adds some rows, as they are stored, to a digest; those of parts have one of their own.
pub fn add_stored(model: &Model, runs: &[Run], pool: &Pool<u8>, digest: &mut Digest) -> Result<(), IoError> {
    if let Stored::Bytes { buffer, .. } = Stored::of(model, runs, true, pool)? {
        digest.update(&buffer);
    }
    Ok(())
}

/// The batch of some rows of one file, which are added to a digest. `continues`: the rows after them are likely to be asked for next.
pub fn batch(
    model: &Model,
    runs: &[Run],
    continues: bool,
    projection: &[usize],
    schema: &SchemaRef,
    pools: &Pools,
    digest: Option<&mut Digest>,
) -> Result<RecordBatch, IoError> {
    let Some(first) = runs.first() else { return Ok(RecordBatch::new_empty(Arc::clone(schema))) };
    let path = &model.file_of(&model.tensors()[first.tensor]).path;
    let every = weights_schema();
    let reads = |name: &str| projection.iter().any(|column| every.field(*column).name() == name);
    let stored = if reads_data(projection) { Some(Stored::of(model, runs, continues, &pools.stored)?) } else { None };
    if let (Some(digest), Some(Stored::Bytes { buffer, .. })) = (digest, &stored) {
        digest.update(buffer);
    }
    let decodes = reads(DATA) && runs.iter().any(|run| model.decoded_float(&model.tensors()[run.tensor]).is_some());
    let widened = match &stored {
        Some(stored) if reads(WEIGHTS) || decodes => Some(weights(model, runs, stored, &pools.widened)?),
        _ => None,
    };
    let mut columns = Vec::with_capacity(projection.len());
    for column in projection {
        let array = match (&stored, &widened, every.field(*column).name().as_str()) {
            (_, Some(widened), WEIGHTS) => Arc::new(widened.clone()) as ArrayRef,
            (Some(stored), widened, DATA) => data(model, runs, stored, widened.as_ref())?,
            (_, _, name) => label(model, runs, name).map_err(IoError::arrow(path))?,
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

/// The rows and columns that a batch is made of.
enum Stored {
    /// The rows of all runs one after the other, and where each run's begin.
    Bytes { buffer: Buffer, ranges: Vec<Range<usize>> },
    /// Rows of parts, a batch for each run.
    Parts(Vec<RecordBatch>),
}

impl Stored {
    fn of(model: &Model, runs: &[Run], continues: bool, pool: &Pool<u8>) -> Result<Self, IoError> {
        if let Some(parts) = model.part_rows() {
            let continues = |number| continues || number + 1 < runs.len();
            let rows = |(number, run): (usize, &Run)| {
                let batch = parts.rows(run.tensor, &run.rows, continues(number))?;
                check_parts(model, run, &batch)?;
                Ok::<_, IoError>(batch)
            };
            return Ok(Self::Parts(runs.iter().enumerate().map(rows).collect::<Result<_, _>>()?));
        }
        let mut ranges = Vec::with_capacity(runs.len());
        let mut end = 0;
        for run in runs {
            let length = stored_row_bytes(&model.tensors()[run.tensor]) * run.rows.len();
            ranges.push(end..end + length);
            end += length;
        }
        let plain: Option<Vec<(usize, Range<usize>)>> = runs
            .iter()
            .map(|run| {
                let tensor = &model.tensors()[run.tensor];
                tensor.is_plain().then(|| (tensor.file(), tensor.rows_range(&run.rows)))
            })
            .collect();
        let adjacent = plain
            .filter(|places| places.windows(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1.end == pair[1].1.start));
        let buffer = match adjacent.as_deref() {
            Some([]) => Buffer::default(),
            Some([(file, first), ..]) => model.buffer(*file, first.start..first.start + end, pool)?,
            None => {
                let mut bytes = Vec::with_capacity(end);
                for run in runs {
                    copy_rows(model, run, &mut bytes)?;
                }
                Buffer::from_vec(bytes)
            }
        };
        Ok(Self::Bytes { buffer, ranges })
    }
}

/// The rows as stored, or where the model is decoded, those that are not plain in floats.
fn data(model: &Model, runs: &[Run], stored: &Stored, widened: Option<&ListArray>) -> Result<ArrayRef, IoError> {
    let row_bytes = |tensor: &Tensor| {
        let decoded = model.decoded_float(tensor).map(|float| tensor.row_length * float.bytes());
        decoded.unwrap_or_else(|| stored_row_bytes(tensor))
    };
    let offsets = offsets(model, runs, row_bytes, "bytes")?;
    if let Stored::Bytes { buffer, .. } = stored
        && !runs.iter().any(|run| model.decoded_float(&model.tensors()[run.tensor]).is_some())
    {
        return Ok(Arc::new(BinaryArray::new(offsets, buffer.clone(), None)));
    }
    // The length of rows of parts is what the manifest says: no memory is taken on its word.
    let length = offsets.last().map_or(0, |last| *last as usize);
    let mut bytes = Vec::with_capacity(if matches!(stored, Stored::Bytes { .. }) { length } else { 0 });
    // Rows of parts may be entropy-coded: each as long as it is.
    let (mut ends, mut before) = (vec![0], 0);
    for (number, run) in runs.iter().enumerate() {
        let tensor = &model.tensors()[run.tensor];
        let carried = is_carried(stored, number) && !tensor.dtype.is_fp8();
        match widened.zip(model.decoded_float(tensor)).filter(|_| !carried) {
            Some((widened, float)) => {
                let rows = widened.slice(before, run.rows.len());
                let path = &model.file_of(tensor).path;
                let encoded = encode_as(&rows, &[Some(Encoding::Float(float))])
                    .map_err(|error| IoError::tensor(path, &tensor.name, error.offset(run.rows.start).to_string()))?;
                for row in encoded.as_binary::<i32>().iter().flatten() {
                    bytes.extend_from_slice(row);
                    ends.push(bytes.len());
                }
            }
            None => match stored {
                Stored::Bytes { .. } => {
                    let start = bytes.len();
                    copy_rows(model, run, &mut bytes)?;
                    ends.extend((1..=run.rows.len()).map(|row| start + row * stored_row_bytes(tensor)));
                }
                Stored::Parts(batches) => copy_parts(model, run, &batches[number], &mut bytes, &mut ends)?,
            },
        }
        before += run.rows.len();
    }
    let offsets = ends
        .into_iter()
        .map(i32::try_from)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| IoError::file(model.folder(), format!("rows of a batch have more than {} bytes", i32::MAX)))?;
    BinaryArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(bytes), None)
        .map(|array| Arc::new(array) as ArrayRef)
        .map_err(|error| IoError::arrow(model.folder())(error))
}

/// Returns true if the rows of a run are those of parts, copied there unchanged: their bytes are floats already.
fn is_carried(stored: &Stored, number: usize) -> bool {
    match stored {
        Stored::Bytes { .. } => false,
        Stored::Parts(batches) => {
            columns(&batches[number]).is_ok_and(|(quantized, _)| quantized.null_count() == quantized.len())
        }
    }
}

/// The rows widened to f32; null where there are none, see [`Model::has_weights`].
fn weights(model: &Model, runs: &[Run], stored: &Stored, pool: &Pool<f32>) -> Result<ListArray, IoError> {
    let length = |tensor: &Tensor| if model.has_weights(tensor) { tensor.row_length } else { 0 };
    let offsets = offsets(model, runs, length, "elements")?;
    let length = offsets.last().map_or(0, |last| *last as usize);
    let values = pool.buffer(length, |mut rest| {
        for (number, run) in runs.iter().enumerate() {
            let tensor = &model.tensors()[run.tensor];
            if model.has_weights(tensor) {
                let (out, after) = rest.split_at_mut(run.rows.len() * tensor.row_length);
                match stored {
                    Stored::Bytes { buffer, ranges } => widen::rows(model, run, &buffer[ranges[number].clone()], out)?,
                    Stored::Parts(batches) => part_weights(model, run, &batches[number], out)?,
                }
                rest = after;
            }
        }
        Ok::<_, IoError>(())
    })?;
    let floats = || runs.iter().map(|run| (model.has_weights(&model.tensors()[run.tensor]), run.rows.len()));
    let nulls = floats()
        .any(|(float, _)| !float)
        .then(|| floats().flat_map(|(float, count)| std::iter::repeat_n(float, count)).collect::<NullBuffer>());
    let field = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values = Float32Array::new(ScalarBuffer::new(values, 0, length), None);
    Ok(ListArray::new(field, offsets, Arc::new(values), nulls))
}

/// Rows of parts to f32: the quantized ones decoded, the others widened.
fn part_weights(model: &Model, run: &Run, batch: &RecordBatch, out: &mut [f32]) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    let path = &model.file_of(tensor).path;
    let (quantized, _) = columns(batch).map_err(|problem| IoError::file(path, problem))?;
    if quantized.null_count() == quantized.len() {
        let mut bytes = Vec::new();
        copy_parts(model, run, batch, &mut bytes, &mut Vec::new())?;
        return widen::rows(model, run, &bytes, out);
    }
    let decoded = dequantize(quantized)
        .map_err(|error| IoError::tensor(path, &tensor.name, error.offset(run.rows.start).to_string()))?;
    let decoded = decoded.as_list::<i32>();
    for (row, out) in out.chunks_exact_mut(tensor.row_length.max(1)).enumerate() {
        let values = decoded.value(row);
        if decoded.is_null(row) || values.len() != out.len() {
            let problem = format!("row {} has {} weights, not {}", run.rows.start + row, values.len(), out.len());
            return Err(IoError::tensor(path, &tensor.name, problem));
        }
        out.copy_from_slice(values.as_primitive::<Float32Type>().values());
    }
    Ok(())
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
