//! A checked view of an array of quantized values, or of their parameters alone.

use arrow_array::{
    Array, PrimitiveArray, StructArray,
    cast::AsArray,
    types::{ArrowPrimitiveType, Float32Type, UInt8Type, UInt32Type},
};
use arrow_schema::DataType;

use super::entropy_row::EntropyRow;
use crate::{
    compute::ComputeError,
    kernels::params::Params,
    types::{
        Bits,
        quantized::{BITS, CODES, ENTROPY_BITS, GROUP_SIZE, LENGTH, ROW_SCALE, SCALES, ZERO_POINTS},
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
    /// Returns the parameters as the kernels take them.
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
pub enum QuantizedRow<'a> {
    /// Codes of a fixed width.
    Packed {
        /// Bits per code.
        bits: Bits,
        /// The decode parameters.
        params: RowParams<'a>,
        /// The packed codes.
        codes: &'a [u8],
    },
    /// Levels of variable length.
    Entropy(EntropyRow<'a>),
}

impl QuantizedRow<'_> {
    /// Returns the number of weights in the row.
    pub fn length(&self) -> usize {
        match self {
            Self::Packed { params, .. } => params.length,
            Self::Entropy(row) => row.length,
        }
    }
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
    /// Returns [`ComputeError::InvalidArgument`] if it is not a struct with the fields of
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

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.array.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.array.is_empty()
    }

    /// Returns the parameters of a row, or `None` where it is null.
    ///
    /// # Errors
    /// Returns [`ComputeError::Corrupt`] if the fields do not fit together.
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

/// Bits, parameters and codes of a value whose codes have a fixed width.
type Packed<'a> = (Bits, RowParams<'a>, &'a [u8]);

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
    /// Returns [`ComputeError::InvalidArgument`] if it is not a struct with the fields of
    /// [`quantized_type`](crate::types::quantized::quantized_type).
    pub fn try_new(array: &'a dyn Array) -> Result<Self, ComputeError> {
        let params = ParamsArray::try_new(array)?;
        Ok(Self { bits: primitive(params.array, BITS)?, codes: bytes(params.array, CODES)?, params })
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.params.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.params.is_empty()
    }

    /// Returns true if a value is entropy-coded.
    pub(in crate::compute) fn has_entropy(&self) -> bool {
        (0..self.len()).any(|row| self.is_entropy(row))
    }

    fn is_entropy(&self, row: usize) -> bool {
        self.params.array.is_valid(row) && self.bits.is_valid(row) && self.bits.value(row) == ENTROPY_BITS
    }

    /// Returns row `row`, or `None` where it is null.
    ///
    /// # Errors
    /// Returns [`ComputeError::Corrupt`] if the fields do not fit together.
    pub fn row(&self, row: usize) -> Result<Option<QuantizedRow<'a>>, ComputeError> {
        let corrupt = |reason: String| ComputeError::Corrupt { row, reason };
        let array = &self.params;
        if self.is_entropy(row) {
            let (group_size, length) = (value(array.group_size, row, GROUP_SIZE)?, value(array.length, row, LENGTH)?);
            let codes = self.codes.get(row).ok_or_else(|| corrupt(format!("{CODES} is null")))?;
            if array.scales.get(row).is_some_and(|scales| !scales.is_empty()) || array.zero_points.get(row).is_some() {
                return Err(corrupt(format!("{BITS} is 0, an entropy-coded value, with {SCALES} or {ZERO_POINTS}")));
            }
            let step = value(array.row_scale, row, ROW_SCALE)?;
            let entropy = EntropyRow::try_new(group_size as usize, length as usize, step, codes).map_err(corrupt)?;
            return Ok(Some(QuantizedRow::Entropy(entropy)));
        }
        let Some(params) = self.params.row(row)? else { return Ok(None) };
        let bits =
            Bits::try_from(i64::from(value(self.bits, row, BITS)?)).map_err(|error| corrupt(error.to_string()))?;
        let codes = self.codes.get(row).ok_or_else(|| corrupt(format!("{CODES} is null")))?;
        let (got, need) = (codes.len(), bits.packed_len(params.length));
        if got != need {
            let length = params.length;
            return Err(corrupt(format!("{CODES} has {got} bytes where {length} weights of {bits} bits need {need}")));
        }
        Ok(Some(QuantizedRow::Packed { bits, params, codes }))
    }

    /// Returns row `row`, which must not be entropy-coded, or `None` where it is null.
    ///
    /// # Errors
    /// Returns the errors of [`Self::row`], and an error that says what `function` needs.
    pub(in crate::compute) fn packed(&self, row: usize, function: &str) -> Result<Option<Packed<'a>>, ComputeError> {
        match self.row(row)? {
            None => Ok(None),
            Some(QuantizedRow::Packed { bits, params, codes }) => Ok(Some((bits, params, codes))),
            Some(QuantizedRow::Entropy(_)) => Err(ComputeError::InvalidArgument(format!(
                "row {row} is entropy-coded; {function} needs codes of a fixed width (2, 3, 4 or 8 bits)"
            ))),
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::compute::cast;
    use arrow_array::ArrayRef;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        compute,
        testing::arrays::{Parts, array, list, symmetric, two_groups},
    };

    type Decode = fn(&dyn Array) -> Result<ArrayRef, ComputeError>;

    /// Every function that reads codes.
    const DECODERS: [(&str, Decode); 6] = [
        ("dequantize", compute::dequantize),
        ("codes", compute::codes),
        ("scales", compute::scales),
        ("zero_points", compute::zero_points),
        ("error_stats", |array| compute::error_stats(array, array)),
        ("sqnr", |array| Ok(Arc::new(compute::sqnr(array, array)?))),
    ];

    /// Runs `quantize_with`, which reads parameters alone, on rows of as many zeros.
    fn encode(array: &dyn Array, lengths: &[usize]) -> Result<ArrayRef, ComputeError> {
        let rows: Vec<Vec<f32>> = lengths.iter().map(|length| vec![0.0; *length]).collect();
        let rows: Vec<Option<&[f32]>> = rows.iter().map(|row| Some(&row[..])).collect();
        compute::quantize_with(&list(&rows), &[Some(Bits::Four)], array)
    }

    /// A part of a message, and what brings it about.
    type Fault = (&'static str, fn(&mut Parts));

    #[test]
    fn every_field_that_does_not_fit_is_named_with_its_row() {
        let params: &[Fault] = &[
            ("group_size is 0", |parts| parts.group_size = Some(0)),
            ("group_size is null", |parts| parts.group_size = None),
            ("length is null", |parts| parts.length = None),
            ("row_scale is null", |parts| parts.row_scale = None),
            ("row_scale is NaN", |parts| parts.row_scale = Some(f32::NAN)),
            ("row_scale is inf", |parts| parts.row_scale = Some(f32::INFINITY)),
            ("row_scale is -1", |parts| parts.row_scale = Some(-1.0)),
            ("scales is null", |parts| parts.scales = None),
            ("scales has 1 bytes where 8 weights in groups of 4 need 2", |parts| parts.scales = Some(vec![240])),
            ("scales has 2 bytes where 8 weights in groups of 3 need 3", |parts| parts.group_size = Some(3)),
            ("zero_points has 3 bytes", |parts| parts.zero_points = Some(vec![0; 3])),
            ("zero_points has 0 bytes", |parts| parts.zero_points = Some(vec![])),
        ];
        let codes: &[Fault] = &[
            ("bits is null", |parts| parts.bits = None),
            ("bits must be 2, 3, 4 or 8, not 5", |parts| parts.bits = Some(5)),
            ("codes is null", |parts| parts.codes = None),
            ("codes has 1 bytes where 8 weights of 2 bits need 2", |parts| parts.codes = Some(vec![0])),
            ("codes has 3 bytes", |parts| parts.codes = Some(vec![0; 3])),
            ("codes has 2 bytes where 8 weights of 8 bits need 8", |parts| parts.bits = Some(8)),
            ("codes has 2 bytes where 5 weights of 4 bits need 3", |parts| {
                (parts.bits, parts.length) = (Some(4), Some(5));
            }),
        ];
        for (i, (reason, spoil)) in params.iter().chain(codes).enumerate() {
            let mut spoiled = two_groups();
            spoil(&mut spoiled);
            let array = array(&[Some(two_groups()), None, Some(spoiled), Some(two_groups())]);
            let check = |name: &str, result: Result<ArrayRef, ComputeError>| {
                let error = result.expect_err(reason);
                assert!(matches!(error, ComputeError::Corrupt { row: 2, .. }), "{name}: {error}");
                assert!(error.to_string().contains(reason), "{name}: {error}");
            };
            for (name, function) in DECODERS {
                check(name, function(&array));
                // What is sliced away does no harm.
                function(&array.slice(3, 1)).unwrap();
            }
            if i < params.len() {
                check("quantize_with", encode(&array, &[8; 4]));
            }
        }
    }

    #[test]
    fn a_struct_without_a_field_or_with_one_of_another_type_is_refused() {
        let good = array(&[Some(two_groups())]);
        let good = good.as_struct();
        for (index, field) in good.fields().iter().enumerate() {
            let without: Vec<_> = (0..7).filter(|i| *i != index).collect();
            let fields = |keep: &[usize]| keep.iter().map(|i| Arc::clone(&good.fields()[*i])).collect();
            let columns = |keep: &[usize]| keep.iter().map(|i| Arc::clone(good.column(*i))).collect::<Vec<_>>();
            let missing = StructArray::new(fields(&without), columns(&without), None);
            let mut other = columns(&[0, 1, 2, 3, 4, 5, 6]);
            other[index] = Arc::new(arrow_array::BooleanArray::from(vec![true]));
            let other = StructArray::from(
                good.fields()
                    .iter()
                    .zip(&other)
                    .map(|(field, column)| {
                        let field = field.as_ref().clone().with_data_type(column.data_type().clone());
                        (Arc::new(field), Arc::clone(column))
                    })
                    .collect::<Vec<_>>(),
            );
            for (name, function) in DECODERS {
                for spoiled in [&missing, &other] {
                    let error = function(spoiled).unwrap_err();
                    assert!(matches!(error, ComputeError::InvalidArgument(_)), "{name}: {error}");
                    assert!(error.to_string().contains(&format!("'{}'", field.name())), "{name}: {error}");
                }
            }
        }
        for (name, function) in &DECODERS[..4] {
            let error = function(good.column(0)).unwrap_err().to_string();
            assert_eq!(error, "a quantized value must be a struct, not UInt8", "{name}");
        }
    }

    #[test]
    fn every_layout_of_bytes_is_read() {
        let good = array(&[Some(two_groups()), None, Some(symmetric())]);
        for kind in [DataType::LargeBinary, DataType::BinaryView] {
            let good = good.as_struct();
            let columns = good.fields().iter().zip(good.columns()).map(|(field, column)| {
                let kind =
                    if column.data_type() == &DataType::Binary { kind.clone() } else { column.data_type().clone() };
                (Arc::new(field.as_ref().clone().with_data_type(kind.clone())), cast(column, &kind).unwrap())
            });
            let (fields, columns): (Vec<_>, Vec<_>) = columns.unzip();
            let array = StructArray::new(fields.into(), columns, good.nulls().cloned());
            assert_eq!(&compute::dequantize(&array).unwrap(), &compute::dequantize(good).unwrap());
        }
    }

    /// Values that are right, nearly right, and wrong in every way.
    fn any_parts() -> impl Strategy<Value = Parts> {
        let bits = prop_oneof![4 => prop::sample::select(vec![2u8, 3, 4, 8]), 1 => any::<u8>()];
        let group_size = prop_oneof![4 => 1u32..9, 1 => prop::sample::select(vec![0, u32::MAX, 1 << 31])];
        let length = prop_oneof![6 => 0u32..40, 1 => prop::sample::select(vec![u32::MAX, u32::MAX - 7, 1 << 31])];
        let row_scale = prop_oneof![3 => 0.0f32..2.0, 1 => any::<f32>()];
        let off_by = || prop_oneof![6 => Just(0i64), 1 => -2i64..3];
        let present = || prop::bool::weighted(0.97);
        (
            (bits, group_size, length, row_scale, any::<bool>(), any::<u8>()),
            (off_by(), off_by(), off_by()),
            (present(), present(), present(), present(), present(), present()),
        )
            .prop_map(|((bits, group_size, length, row_scale, symmetric, fill), off_by, present)| {
                let groups = i64::from(length.div_ceil(group_size.max(1)));
                let bytes = |len: i64, off_by: i64| vec![fill; (len.min(50) + off_by).max(0) as usize];
                Parts {
                    bits: present.0.then_some(bits),
                    group_size: present.1.then_some(group_size),
                    length: present.2.then_some(length),
                    row_scale: present.3.then_some(row_scale),
                    codes: present.4.then(|| bytes((i64::from(length) * i64::from(bits) + 7) / 8, off_by.0)),
                    scales: present.5.then(|| bytes(groups, off_by.1)),
                    zero_points: (!symmetric).then(|| bytes(groups, off_by.2)),
                }
            })
    }

    /// Checks that the fields fit together, and that the fields of the parameters do.
    fn fits(parts: &Parts) -> (bool, bool) {
        let whole = || {
            let (group_size, length, row_scale) = (parts.group_size?, parts.length?, parts.row_scale?);
            let groups = u64::from(length).div_ceil(u64::from(Some(group_size).filter(|size| *size > 0)?));
            let is = |bytes: &[u8], len: u64| bytes.len() as u64 == len;
            let fits = row_scale >= 0.0
                && row_scale.is_finite()
                && is(parts.scales.as_ref()?, groups)
                && parts.zero_points.as_ref().is_none_or(|bytes| is(bytes, groups));
            let bits = parts.bits.filter(|bits| [2, 3, 4, 8].contains(bits)).map(u64::from);
            let bytes = bits.map(|bits| (u64::from(length) * bits).div_ceil(8));
            let codes = parts.codes.as_ref().zip(bytes).is_some_and(|(codes, bytes)| is(codes, bytes));
            Some((fits && codes, fits))
        };
        whole().unwrap_or_default()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_struct_brings_about_a_panic(parts in any_parts()) {
            // Bits of 0 say that the value is entropy-coded; `quantize_step` has the test of those.
            prop_assume!(parts.bits != Some(0));
            let (fits, params_fit) = fits(&parts);
            let length = parts.length.unwrap_or(0).min(40) as usize;
            let array = array(&[Some(parts)]);
            for (name, function) in &DECODERS[..4] {
                prop_assert_eq!(function(&array).is_ok(), fits, "{}", name);
            }
            // Weights may decode to infinity, which the measures refuse.
            for (name, function) in &DECODERS[4..] {
                prop_assert!(fits || function(&array).is_err(), "{}", name);
            }
            let encoded = encode(&array, &[length]);
            let corrupt = matches!(encoded, Err(ComputeError::Corrupt { .. }));
            prop_assert!(params_fit != corrupt);
            prop_assert!(!fits || encoded.is_ok());
        }
    }
}
