//! The quantized value: codes and everything needed to decode them, as data.
//!
//! `weight = row_scale * m(scales[g]) * (code - z)`, where
//! `m(c) = (1 + (c mod 16)/16) * 2^(floor(c/16) - 15)` and `z = zero_points[g] * (2^bits - 1) / 255`,
//! or `2^(bits-1)` when `zero_points` is null. The decode parameters are columns, not field metadata:
//! CASE, COALESCE, UNION and casts drop or mix metadata, and one column may hold several bit widths.
//!
//! A value whose `bits` are 0 is entropy-coded: `weight = row_scale * level`, and `codes` holds a stream of levels for every
//! `group_size` weights (`kernels::entropy`), the lengths of all streams but the last before them, as 16 bits each. `scales` is
//! empty and `zero_points` null.

use arrow_schema::{DataType, Field, Fields};

/// `quantized`: the column of quantized values in a table of them.
pub const QUANTIZED: &str = "quantized";
/// `bits`: 2, 3, 4 or 8; 0: entropy-coded.
pub const BITS: &str = "bits";
/// `group_size`: weights per group; the last group may be short.
pub const GROUP_SIZE: &str = "group_size";
/// `length`: weights in the row.
pub const LENGTH: &str = "length";
/// `row_scale`: the f32 that all scales of the row are relative to.
pub const ROW_SCALE: &str = "row_scale";
/// `codes`: `ceil(length*bits/8)` bytes, least significant bit first.
pub const CODES: &str = "codes";
/// `scales`: one u8 per group.
pub const SCALES: &str = "scales";
/// `zero_points`: one u8 per group; null: symmetric.
pub const ZERO_POINTS: &str = "zero_points";

/// The `bits` of entropy-coded values.
pub const ENTROPY_BITS: u8 = 0;
/// The `group_size` of entropy-coded values that this library makes: weights that share a distribution and a stream.
pub const ENTROPY_GROUP_SIZE: u32 = 4096;
/// The bytes that an entropy-coded row counts for beside its codes: their length and the number of the step, about what parts
/// take to store them.
pub const ENTROPY_ROW_BYTES: usize = 2;

/// Returns the fields of a quantized value, in order.
pub fn quantized_fields() -> Fields {
    Fields::from(vec![
        Field::new(BITS, DataType::UInt8, true),
        Field::new(GROUP_SIZE, DataType::UInt32, true),
        Field::new(LENGTH, DataType::UInt32, true),
        Field::new(ROW_SCALE, DataType::Float32, true),
        Field::new(CODES, DataType::Binary, true),
        Field::new(SCALES, DataType::Binary, true),
        Field::new(ZERO_POINTS, DataType::Binary, true),
    ])
}

/// Returns the type of a quantized value.
pub fn quantized_type() -> DataType {
    DataType::Struct(quantized_fields())
}

/// Returns the fields of the parameters alone, as `quant_params` gives and `quantize_with` takes them:
/// a quantized value without `bits` and `codes`.
pub fn params_fields() -> Fields {
    quantized_fields().into_iter().filter(|field| ![BITS, CODES].contains(&field.name().as_str())).cloned().collect()
}

/// Returns the type of the parameters alone.
pub fn params_type() -> DataType {
    DataType::Struct(params_fields())
}

/// Returns `List<UInt8>`, the type of unpacked codes.
pub fn codes_type() -> DataType {
    DataType::List(std::sync::Arc::new(Field::new_list_field(DataType::UInt8, true)))
}
