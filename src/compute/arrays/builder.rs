//! Builds arrays of quantized values, or of their parameters alone, row by row into common buffers.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, Float32Array, StructArray, UInt8Array, UInt32Array};
use arrow_buffer::{Buffer, NullBuffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};

use crate::{
    compute::ComputeError,
    kernels::params::Params,
    types::{
        Bits, QuantizeOptions,
        quantized::{ENTROPY_BITS, ENTROPY_GROUP_SIZE, params_fields, quantized_fields},
    },
};

/// Bytes for which room is made ahead of the rows that fill it, at most: rows to come may be shorter.
const MOST_AHEAD: usize = 4 << 20;

/// A column of bytes in the making.
pub(in crate::compute) struct BytesBuilder {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
}

impl BytesBuilder {
    pub(in crate::compute) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { bytes: Vec::with_capacity(bytes), offsets }
    }

    /// Appends a row of `length` bytes and returns it, to be filled.
    pub(in crate::compute) fn push(&mut self, length: usize) -> Result<&mut [u8], ComputeError> {
        let start = self.bytes.len();
        let end = i32::try_from(start.saturating_add(length))
            .map_err(|_| ComputeError::Overflow { what: "the bytes of a column", limit: i32::MAX as usize })?;
        if self.bytes.capacity() < end as usize {
            // Rows are mostly as long as each other: room for those to come, so that they are not copied as it grows.
            let to_come = (self.offsets.capacity() - self.offsets.len()).saturating_mul(length);
            self.bytes.reserve(length.max(to_come.min(MOST_AHEAD)));
        }
        self.bytes.resize(end as usize, 0);
        self.offsets.push(end);
        Ok(&mut self.bytes[start..])
    }

    pub(in crate::compute) fn finish(self, nulls: Option<NullBuffer>) -> Result<ArrayRef, ComputeError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(BinaryArray::try_new(offsets, Buffer::from_vec(self.bytes), nulls)?))
    }
}

/// The fields of a row, apart from its bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::compute) struct RowShape {
    /// `None` when there are to be no codes.
    pub bits: Option<Bits>,
    pub group_size: u32,
    pub length: usize,
    pub symmetric: bool,
}

impl RowShape {
    /// Returns the shape of a row of `length` weights under `options`.
    pub(in crate::compute) fn new(options: QuantizeOptions, length: usize, codes: bool) -> Self {
        Self {
            bits: codes.then_some(options.bits),
            group_size: options.group_size(),
            length,
            symmetric: options.symmetric,
        }
    }
}

/// The places of a new row, to be filled.
pub(in crate::compute) struct RowMut<'a> {
    pub row_scale: &'a mut f32,
    pub codes: &'a mut [u8],
    pub scales: &'a mut [u8],
    pub zero_points: Option<&'a mut [u8]>,
}

impl RowMut<'_> {
    /// Fills the codes with `encode`, by the parameters that are filled already.
    pub(in crate::compute) fn encode(self, options: QuantizeOptions, encode: impl FnOnce(&Params, &mut [u8])) {
        let params = Params {
            bits: options.bits.get(),
            group_size: options.group_size() as usize,
            row_scale: *self.row_scale,
            scales: self.scales,
            zero_points: self.zero_points.as_deref(),
        };
        encode(&params, self.codes);
    }
}

fn stored_length(length: usize) -> Result<u32, ComputeError> {
    u32::try_from(length).map_err(|_| ComputeError::Overflow { what: "the weights of a row", limit: u32::MAX as usize })
}

/// Builds an array of `quantized_type()`, or of `params_type()` when no row has bits.
pub(in crate::compute) struct QuantizedBuilder {
    bits: Vec<u8>,
    group_size: Vec<u32>,
    length: Vec<u32>,
    row_scale: Vec<f32>,
    codes: BytesBuilder,
    scales: BytesBuilder,
    zero_points: BytesBuilder,
    nulls: NullBufferBuilder,
    zero_point_nulls: NullBufferBuilder,
}

impl QuantizedBuilder {
    /// Returns a builder with room for `rows` rows.
    pub(in crate::compute) fn with_capacity(rows: usize) -> Self {
        Self {
            bits: Vec::with_capacity(rows),
            group_size: Vec::with_capacity(rows),
            length: Vec::with_capacity(rows),
            row_scale: Vec::with_capacity(rows),
            codes: BytesBuilder::with_capacity(rows, 0),
            scales: BytesBuilder::with_capacity(rows, 0),
            zero_points: BytesBuilder::with_capacity(rows, 0),
            nulls: NullBufferBuilder::new(rows),
            zero_point_nulls: NullBufferBuilder::new(rows),
        }
    }

    pub(in crate::compute) fn push_null(&mut self) -> Result<(), ComputeError> {
        self.push_fields(0, 0, 0, 0.0);
        self.codes.push(0)?;
        self.scales.push(0)?;
        self.zero_points.push(0)?;
        self.nulls.append_null();
        self.zero_point_nulls.append_null();
        Ok(())
    }

    fn push_fields(&mut self, bits: u8, group_size: u32, length: u32, row_scale: f32) {
        self.bits.push(bits);
        self.group_size.push(group_size);
        self.length.push(length);
        self.row_scale.push(row_scale);
    }

    /// Appends a row and returns its places. After an error the builder is of no more use.
    pub(in crate::compute) fn push(&mut self, shape: RowShape) -> Result<RowMut<'_>, ComputeError> {
        let length = stored_length(shape.length)?;
        let groups = shape.length.div_ceil(shape.group_size.max(1) as usize);
        self.push_fields(shape.bits.map_or(0, Bits::get), shape.group_size, length, 0.0);
        self.nulls.append_non_null();
        self.zero_point_nulls.append(!shape.symmetric);
        let zero_points = self.zero_points.push(if shape.symmetric { 0 } else { groups })?;
        Ok(RowMut {
            row_scale: self.row_scale.last_mut().ok_or(ComputeError::Overflow { what: "rows", limit: 0 })?,
            codes: self.codes.push(shape.bits.map_or(0, |bits| bits.packed_len(shape.length)))?,
            scales: self.scales.push(groups)?,
            zero_points: (!shape.symmetric).then_some(zero_points),
        })
    }

    /// Appends an entropy-coded row.
    pub(in crate::compute) fn push_entropy(
        &mut self,
        length: usize,
        step: f32,
        codes: &[u8],
    ) -> Result<(), ComputeError> {
        self.push_fields(ENTROPY_BITS, ENTROPY_GROUP_SIZE, stored_length(length)?, step);
        self.nulls.append_non_null();
        self.zero_point_nulls.append_null();
        self.codes.push(codes.len())?.copy_from_slice(codes);
        self.scales.push(0)?;
        self.zero_points.push(0)?;
        Ok(())
    }

    /// Returns the array of quantized values.
    pub(in crate::compute) fn finish(mut self) -> Result<ArrayRef, ComputeError> {
        let nulls = self.nulls.finish();
        let bits = Arc::new(UInt8Array::try_new(std::mem::take(&mut self.bits).into(), nulls.clone())?);
        let codes = std::mem::replace(&mut self.codes, BytesBuilder::with_capacity(0, 0)).finish(nulls.clone())?;
        let mut columns = self.params(nulls.clone())?;
        columns.insert(0, bits);
        columns.insert(4, codes);
        Ok(Arc::new(StructArray::try_new(quantized_fields(), columns, nulls)?))
    }

    /// Returns the array of parameters; codes and bits are left out.
    pub(in crate::compute) fn finish_params(mut self) -> Result<ArrayRef, ComputeError> {
        let nulls = self.nulls.finish();
        let columns = self.params(nulls.clone())?;
        Ok(Arc::new(StructArray::try_new(params_fields(), columns, nulls)?))
    }

    /// Gives children the nulls of their rows as well: who takes a field out of the struct may not look at the struct's.
    fn params(mut self, nulls: Option<NullBuffer>) -> Result<Vec<ArrayRef>, ComputeError> {
        Ok(vec![
            Arc::new(UInt32Array::try_new(self.group_size.into(), nulls.clone())?),
            Arc::new(UInt32Array::try_new(self.length.into(), nulls.clone())?),
            Arc::new(Float32Array::try_new(self.row_scale.into(), nulls.clone())?),
            self.scales.finish(nulls)?,
            self.zero_points.finish(self.zero_point_nulls.finish())?,
        ])
    }
}
