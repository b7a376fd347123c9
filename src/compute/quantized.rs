//! A checked view of an array of quantized values, or of their parameters alone.

use arrow_array::{
    Array, PrimitiveArray, StructArray,
    cast::AsArray,
    types::{ArrowPrimitiveType, Float32Type, UInt8Type, UInt32Type},
};
use arrow_schema::DataType;

use super::ComputeError;
use crate::{
    kernels::params::Params,
    types::{
        Bits,
        quantized::{BITS, CODES, GROUP_SIZE, LENGTH, ROW_SCALE, SCALES, ZERO_POINTS},
    },
};

/// A column of bytes, in any of Arrow's layouts: readers of files choose their own.
enum BytesColumn<'a> {
    Binary(&'a arrow_array::BinaryArray),
    LargeBinary(&'a arrow_array::LargeBinaryArray),
    View(&'a arrow_array::BinaryViewArray),
}

impl<'a> BytesColumn<'a> {
    fn get(&self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Binary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::LargeBinary(array) => array.is_valid(row).then(|| array.value(row)),
            Self::View(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

/// The decode parameters of a row, checked: lengths fit, the group size is not 0, the scale is finite.
#[derive(Debug, Clone, Copy)]
pub struct RowParams<'a> {
    /// Weights per group.
    pub group_size: usize,
    /// Weights in the row.
    pub length: usize,
    /// The scale that the scale codes are relative to.
    pub row_scale: f32,
    /// One scale code per group.
    pub scales: &'a [u8],
    /// One zero-point code per group; `None`: symmetric.
    pub zero_points: Option<&'a [u8]>,
}

impl<'a> RowParams<'a> {
    /// As the kernels take it.
    pub fn with_bits(&self, bits: Bits) -> Params<'a> {
        Params {
            bits: bits.get(),
            group_size: self.group_size,
            row_scale: self.row_scale,
            scales: self.scales,
            zero_points: self.zero_points,
        }
    }
}

/// One quantized value, checked.
#[derive(Debug, Clone, Copy)]
pub struct QuantizedRow<'a> {
    /// Bits per code.
    pub bits: Bits,
    /// The decode parameters.
    pub params: RowParams<'a>,
    /// The packed codes.
    pub codes: &'a [u8],
}

/// The parameters of each row of a struct array; other fields are not looked at.
pub struct ParamsArray<'a> {
    array: &'a StructArray,
    group_size: &'a PrimitiveArray<UInt32Type>,
    length: &'a PrimitiveArray<UInt32Type>,
    row_scale: &'a PrimitiveArray<Float32Type>,
    scales: BytesColumn<'a>,
    zero_points: BytesColumn<'a>,
}

impl<'a> ParamsArray<'a> {
    /// Views `array`, whose fields are found by name.
    ///
    /// # Errors
    /// [`ComputeError::InvalidArgument`] when it is not a struct with the fields of
    /// [`params_type`](crate::types::quantized::params_type).
    pub fn try_new(array: &'a dyn Array) -> Result<Self, ComputeError> {
        let array = array.as_struct_opt().ok_or_else(|| {
            ComputeError::InvalidArgument(format!("a quantized value must be a struct, not {}", array.data_type()))
        })?;
        Ok(Self {
            group_size: primitive(array, GROUP_SIZE)?,
            length: primitive(array, LENGTH)?,
            row_scale: primitive(array, ROW_SCALE)?,
            scales: bytes(array, SCALES)?,
            zero_points: bytes(array, ZERO_POINTS)?,
            array,
        })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// The parameters of a row, or `None` where it is null.
    ///
    /// # Errors
    /// [`ComputeError::Corrupt`] when the fields do not fit together.
    pub fn row(&self, row: usize) -> Result<Option<RowParams<'a>>, ComputeError> {
        if self.array.is_null(row) {
            return Ok(None);
        }
        let corrupt = |reason: String| ComputeError::Corrupt { row, reason };
        let group_size = value(self.group_size, row, GROUP_SIZE)? as usize;
        let length = value(self.length, row, LENGTH)? as usize;
        let row_scale = value(self.row_scale, row, ROW_SCALE)?;
        let scales = self.scales.get(row).ok_or_else(|| corrupt(format!("{SCALES} is null")))?;
        let zero_points = self.zero_points.get(row);
        if group_size == 0 {
            return Err(corrupt(format!("{GROUP_SIZE} is 0")));
        }
        if !(row_scale.is_finite() && row_scale >= 0.0) {
            return Err(corrupt(format!("{ROW_SCALE} is {row_scale}; it must be finite and not negative")));
        }
        let groups = length.div_ceil(group_size);
        for (name, bytes) in [(SCALES, Some(scales)), (ZERO_POINTS, zero_points)] {
            if let Some(got) = bytes.map(<[u8]>::len).filter(|len| *len != groups) {
                return Err(corrupt(format!(
                    "{name} has {got} bytes where {length} weights in groups of {group_size} need {groups}"
                )));
            }
        }
        Ok(Some(RowParams { group_size, length, row_scale, scales, zero_points }))
    }
}

/// A view of an array of quantized values: every row is checked as it is read.
pub struct QuantizedArray<'a> {
    params: ParamsArray<'a>,
    bits: &'a PrimitiveArray<UInt8Type>,
    codes: BytesColumn<'a>,
}

impl<'a> QuantizedArray<'a> {
    /// Views `array`, whose fields are found by name.
    ///
    /// # Errors
    /// [`ComputeError::InvalidArgument`] when it is not a struct with the fields of
    /// [`quantized_type`](crate::types::quantized::quantized_type).
    pub fn try_new(array: &'a dyn Array) -> Result<Self, ComputeError> {
        let params = ParamsArray::try_new(array)?;
        Ok(Self { bits: primitive(params.array, BITS)?, codes: bytes(params.array, CODES)?, params })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// Row `row`, or `None` where it is null.
    ///
    /// # Errors
    /// [`ComputeError::Corrupt`] when the fields do not fit together.
    pub fn row(&self, row: usize) -> Result<Option<QuantizedRow<'a>>, ComputeError> {
        let Some(params) = self.params.row(row)? else { return Ok(None) };
        let corrupt = |reason: String| ComputeError::Corrupt { row, reason };
        let bits =
            Bits::try_from(i64::from(value(self.bits, row, BITS)?)).map_err(|error| corrupt(error.to_string()))?;
        let codes = self.codes.get(row).ok_or_else(|| corrupt(format!("{CODES} is null")))?;
        let (got, need) = (codes.len(), bits.packed_len(params.length));
        if got != need {
            let length = params.length;
            return Err(corrupt(format!("{CODES} has {got} bytes where {length} weights of {bits} bits need {need}")));
        }
        Ok(Some(QuantizedRow { bits, params, codes }))
    }
}

fn column<'a>(array: &'a StructArray, name: &str) -> Result<&'a dyn Array, ComputeError> {
    array.column_by_name(name).map(AsRef::as_ref).ok_or_else(|| {
        ComputeError::InvalidArgument(format!(
            "a quantized value must have a field '{name}'; {} has none",
            array.data_type()
        ))
    })
}

fn primitive<'a, T: ArrowPrimitiveType>(
    array: &'a StructArray,
    name: &str,
) -> Result<&'a PrimitiveArray<T>, ComputeError> {
    let column = column(array, name)?;
    column.as_primitive_opt::<T>().ok_or_else(|| field_type(name, &T::DATA_TYPE.to_string(), column.data_type()))
}

fn bytes<'a>(array: &'a StructArray, name: &str) -> Result<BytesColumn<'a>, ComputeError> {
    let column = column(array, name)?;
    match column.data_type() {
        DataType::Binary => Ok(BytesColumn::Binary(column.as_binary())),
        DataType::LargeBinary => Ok(BytesColumn::LargeBinary(column.as_binary())),
        DataType::BinaryView => Ok(BytesColumn::View(column.as_binary_view())),
        other => Err(field_type(name, "Binary", other)),
    }
}

fn field_type(name: &str, expected: &str, got: &DataType) -> ComputeError {
    ComputeError::InvalidArgument(format!("the field '{name}' of a quantized value must be {expected}, not {got}"))
}

fn value<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize, name: &str) -> Result<T::Native, ComputeError> {
    if column.is_null(row) {
        return Err(ComputeError::Corrupt { row, reason: format!("{name} is null") });
    }
    Ok(column.value(row))
}
