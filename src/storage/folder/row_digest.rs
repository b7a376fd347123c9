//! The digest of rows: whoever writes them and reads them back comes to the same digest, however the rows are cut into
//! batches and encoded.

use std::ops::Range;

use arrow_array::{
    Array, BinaryArray, PrimitiveArray, RecordBatch, StructArray,
    cast::AsArray,
    types::{ArrowPrimitiveType, Float32Type, Int64Type, UInt8Type, UInt32Type},
};
use arrow_schema::ArrowError;

use crate::{
    storage::digest::Digest,
    types::{
        quantized::{BITS, CODES, GROUP_SIZE, LENGTH, QUANTIZED, ROW_SCALE, SCALES, ZERO_POINTS},
        weights::{CHANNEL, DATA, DTYPE, MODULE, NAME, SHAPE},
    },
};

/// The digests of tensors whose rows come one after the other.
#[derive(Debug, Default)]
pub struct Contents {
    finished: Vec<(String, String)>,
    open: Option<(String, Content)>,
}

impl Contents {
    /// Adds the rows of a batch of the output schema.
    ///
    /// # Errors
    /// Returns an error if a column is missing or of another type.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let columns = Columns::of(batch)?;
        let names = column(batch, NAME)?.as_string_view_opt().ok_or_else(|| wrong(NAME))?;
        let mut start = 0;
        while start < batch.num_rows() {
            let name = names.value(start);
            let end = (start + 1..batch.num_rows()).find(|row| names.value(*row) != name).unwrap_or(batch.num_rows());
            if self.open.as_ref().is_none_or(|(open, _)| open != name) {
                self.close();
            }
            let (_, content) = self.open.get_or_insert_with(|| (name.to_owned(), Content::default()));
            content.add(&columns, start..end);
            start = end;
        }
        Ok(())
    }

    fn close(&mut self) {
        self.finished.extend(self.open.take().map(|(name, content)| (name, content.digest())));
    }

    /// Returns the name and digest of each tensor, in the order in which they came.
    pub fn finish(mut self) -> Vec<(String, String)> {
        self.close();
        self.finished
    }
}

/// The content of one tensor: each column of bytes is a stream of its own, so that neighbouring rows are hashed at once,
/// and everything else is another, the lengths in those columns included.
#[derive(Debug, Default)]
struct Content {
    labels: Digest,
    bytes: [Digest; 4],
    row: Vec<u8>,
}

impl Content {
    fn add(&mut self, columns: &Columns, rows: Range<usize>) {
        self.row.clear();
        for row in rows.clone() {
            columns.label(row, &mut self.row);
        }
        self.labels.update(&self.row);
        for (digest, (array, within)) in self.bytes.iter_mut().zip(columns.binaries()) {
            if array.null_count() == 0 && within.is_none_or(|outer| outer.null_count() == 0) {
                let offsets = array.value_offsets();
                digest.update(&array.values()[offsets[rows.start] as usize..offsets[rows.end] as usize]);
                continue;
            }
            for row in rows.clone() {
                digest.update(value(array, within, row).unwrap_or_default());
            }
        }
    }

    fn digest(&self) -> String {
        let mut all = Digest::default();
        for stream in std::iter::once(&self.labels).chain(&self.bytes) {
            all.update(stream.hex().as_bytes());
        }
        all.hex()
    }
}

/// Returns a value of a column that may lie in a struct.
fn value<'a>(array: &'a BinaryArray, within: Option<&StructArray>, row: usize) -> Option<&'a [u8]> {
    (array.is_valid(row) && within.is_none_or(|outer| outer.is_valid(row))).then(|| array.value(row))
}

/// The columns of the output schema.
struct Columns<'a> {
    module: &'a arrow_array::StringViewArray,
    dtype: &'a arrow_array::StringViewArray,
    /// The offsets at which the sizes of each row begin and end, and the sizes.
    shape: (&'a [i32], &'a PrimitiveArray<Int64Type>),
    channel: &'a PrimitiveArray<Int64Type>,
    quantized: &'a StructArray,
    bits: &'a PrimitiveArray<UInt8Type>,
    group_size: &'a PrimitiveArray<UInt32Type>,
    length: &'a PrimitiveArray<UInt32Type>,
    row_scale: &'a PrimitiveArray<Float32Type>,
    codes: &'a BinaryArray,
    scales: &'a BinaryArray,
    zero_points: &'a BinaryArray,
    data: &'a BinaryArray,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let text = |name| column(batch, name)?.as_string_view_opt().ok_or_else(|| wrong(name));
        let quantized = column(batch, QUANTIZED)?.as_struct_opt().ok_or_else(|| wrong(QUANTIZED))?;
        let field = |name| quantized.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| wrong(name));
        let shape = column(batch, SHAPE)?.as_list_opt::<i32>().ok_or_else(|| wrong(SHAPE))?;
        let bytes = |array: &'a dyn Array, name| array.as_binary_opt::<i32>().ok_or_else(|| wrong(name));
        Ok(Self {
            module: text(MODULE)?,
            dtype: text(DTYPE)?,
            shape: (shape.value_offsets(), primitive(shape.values(), SHAPE)?),
            channel: primitive(column(batch, CHANNEL)?, CHANNEL)?,
            bits: primitive(field(BITS)?, BITS)?,
            group_size: primitive(field(GROUP_SIZE)?, GROUP_SIZE)?,
            length: primitive(field(LENGTH)?, LENGTH)?,
            row_scale: primitive(field(ROW_SCALE)?, ROW_SCALE)?,
            codes: bytes(field(CODES)?, CODES)?,
            scales: bytes(field(SCALES)?, SCALES)?,
            zero_points: bytes(field(ZERO_POINTS)?, ZERO_POINTS)?,
            data: bytes(column(batch, DATA)?, DATA)?,
            quantized,
        })
    }

    fn binaries(&self) -> [(&'a BinaryArray, Option<&'a StructArray>); 4] {
        let within = Some(self.quantized);
        [(self.codes, within), (self.scales, within), (self.zero_points, within), (self.data, None)]
    }

    /// Appends everything of a row but its bytes; texts, lists and bytes by their length too.
    fn label(&self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.channel.value(row).to_le_bytes());
        for text in [self.module.value(row), self.dtype.value(row)] {
            out.extend_from_slice(&(text.len() as u64).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        let (offsets, sizes) = self.shape;
        let shape = offsets[row] as usize..offsets[row + 1] as usize;
        out.extend_from_slice(&(shape.len() as u64).to_le_bytes());
        for i in shape {
            let size = if sizes.is_valid(i) { sizes.value(i) } else { -1 };
            out.extend_from_slice(&size.to_le_bytes());
        }
        if self.quantized.is_valid(row) {
            out.push(self.bits.value(row));
            out.extend_from_slice(&self.group_size.value(row).to_le_bytes());
            out.extend_from_slice(&self.length.value(row).to_le_bytes());
            out.extend_from_slice(&self.row_scale.value(row).to_bits().to_le_bytes());
        }
        for (array, within) in self.binaries() {
            let length = value(array, within, row).map_or(-1, |bytes| bytes.len() as i64);
            out.extend_from_slice(&length.to_le_bytes());
        }
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("the column {name} is missing"));
    batch.column_by_name(name).map(AsRef::as_ref).ok_or_else(missing)
}

fn primitive<'a, T: ArrowPrimitiveType>(array: &'a dyn Array, name: &str) -> Result<&'a PrimitiveArray<T>, ArrowError> {
    array.as_primitive_opt().ok_or_else(|| wrong(name))
}

fn wrong(name: &str) -> ArrowError {
    ArrowError::SchemaError(format!("the column {name} is of another type"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::concat_batches;
    use arrow_array::{ArrayRef, Float32Array, Int64Array, UInt8Array};

    use super::*;
    use crate::{
        testing::parts::{model, output},
        types::output::output_schema,
    };

    fn digests(batches: &[RecordBatch]) -> Vec<(String, String)> {
        let mut contents = Contents::default();
        for batch in batches {
            contents.add(batch).unwrap();
        }
        contents.finish()
    }

    fn rows() -> RecordBatch {
        let folder = tempfile::tempdir().unwrap();
        let (model, parts) = model(folder.path(), 1 << 20);
        concat_batches(&output_schema(), &output(&model, &parts[0], 1 << 20)).unwrap()
    }

    #[test]
    fn it_does_not_depend_on_how_rows_are_cut() {
        let whole = rows();
        let expected = digests(std::slice::from_ref(&whole));
        assert_eq!(expected.len(), 5);
        let single: Vec<_> = (0..whole.num_rows()).map(|row| whole.slice(row, 1)).collect();
        assert_eq!(digests(&single), expected);
        assert_eq!(digests(&[whole.slice(0, 41), whole.slice(41, whole.num_rows() - 41)]), expected);
    }

    /// Returns the batch with one value of a column replaced.
    fn with(batch: &RecordBatch, name: &str, change: impl Fn(&ArrayRef) -> ArrayRef) -> RecordBatch {
        let mut columns = batch.columns().to_vec();
        if let Ok(index) = batch.schema().index_of(name) {
            columns[index] = change(&columns[index]);
        } else {
            let at = batch.schema().index_of(QUANTIZED).unwrap();
            let (fields, mut arrays, nulls) = columns[at].as_struct().clone().into_parts();
            let index = fields.find(name).unwrap().0;
            arrays[index] = change(&arrays[index]);
            columns[at] = Arc::new(StructArray::new(fields, arrays, nulls));
        }
        RecordBatch::try_new(batch.schema(), columns).unwrap()
    }

    #[test]
    fn a_change_of_any_value_shows() {
        let whole = rows();
        let expected = digests(std::slice::from_ref(&whole));
        let flip = |array: &ArrayRef| -> ArrayRef {
            let array = array.as_binary::<i32>();
            let mut rows: Vec<Option<Vec<u8>>> = array.iter().map(|row| row.map(<[u8]>::to_vec)).collect();
            *rows.iter_mut().flatten().flat_map(|row| row.iter_mut()).last().unwrap() ^= 1;
            Arc::new(rows.iter().map(Option::as_deref).collect::<BinaryArray>())
        };
        let mut seen = vec![expected];
        for name in [CODES, SCALES, ZERO_POINTS, DATA] {
            seen.push(digests(&[with(&whole, name, flip)]));
        }
        let bits = |array: &ArrayRef| -> ArrayRef {
            let values = array.as_primitive::<UInt8Type>().iter();
            Arc::new(values.map(|bits| bits.map(|bits| bits ^ 1)).collect::<UInt8Array>())
        };
        seen.push(digests(&[with(&whole, BITS, bits)]));
        let scale = |array: &ArrayRef| -> ArrayRef {
            let values = array.as_primitive::<Float32Type>().iter();
            Arc::new(values.map(|scale| scale.map(|scale| -scale)).collect::<Float32Array>())
        };
        seen.push(digests(&[with(&whole, ROW_SCALE, scale)]));
        let channel = |array: &ArrayRef| -> ArrayRef {
            let values = array.as_primitive::<Int64Type>().iter();
            Arc::new(values.map(|channel| channel.map(|channel| channel + 1)).collect::<Int64Array>())
        };
        seen.push(digests(&[with(&whole, CHANNEL, channel)]));
        for (number, digests) in seen.iter().enumerate() {
            assert!(!seen[..number].contains(digests), "change {number}");
        }
    }

    #[test]
    fn a_batch_without_the_columns_is_refused() {
        let message = Contents::default().add(&rows().project(&[0, 1]).unwrap()).unwrap_err().to_string();
        assert!(message.contains("is missing"), "{message}");
    }
}
