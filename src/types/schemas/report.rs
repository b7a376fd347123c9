//! The report of a quantization: one row per tensor.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{
    quantized::{BITS, GROUP_SIZE},
    weights::{DTYPE, NAME, SHAPE, shape_type},
};

/// `bits_per_weight`: every stored bit of the tensor by its elements; null where it has none.
pub const BITS_PER_WEIGHT: &str = "bits_per_weight";
/// `sqnr_db`: signal to quantization noise in dB; null for tensors copied unchanged, infinite where nothing was lost.
pub const SQNR_DB: &str = "sqnr_db";
/// `cosine`: the cosine similarity to the original; 1 where both are all zero, 0 where one is;
/// null for tensors copied unchanged.
pub const COSINE: &str = "cosine";
/// `mse`: the mean squared error; null for tensors copied unchanged.
pub const MSE: &str = "mse";
/// `max_abs_error`: the largest absolute error; null for tensors copied unchanged.
pub const MAX_ABS_ERROR: &str = "max_abs_error";
/// `bytes_in`: the tensor's bytes in the source.
pub const BYTES_IN: &str = "bytes_in";
/// `bytes_out`: the bytes that its rows take in the output, without names, shapes and headers of files.
pub const BYTES_OUT: &str = "bytes_out";
/// `seconds`: time spent on it; null where it was not measured, as for parts that a resumed run found finished.
pub const SECONDS: &str = "seconds";
/// `note`: the reason why it is copied unchanged, or where its bits come from; null where there is nothing to say.
pub const NOTE: &str = "note";

/// Returns the schema of the report. `name` is its key; `bits` are 0 for entropy-coded weights; `bits` and `group_size` are null for
/// tensors that are copied unchanged, whether as stored or, where equalization changed them, as F32.
pub fn report_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let number = |name| Field::new(name, DataType::Float64, true);
        Arc::new(Schema::new(vec![
            Field::new(NAME, DataType::Utf8View, false),
            Field::new(SHAPE, shape_type(), false),
            Field::new(DTYPE, DataType::Utf8View, false),
            Field::new(BITS, DataType::Int64, true),
            Field::new(GROUP_SIZE, DataType::Int64, true),
            number(BITS_PER_WEIGHT),
            number(SQNR_DB),
            number(COSINE),
            number(MSE),
            number(MAX_ABS_ERROR),
            Field::new(BYTES_IN, DataType::Int64, false),
            Field::new(BYTES_OUT, DataType::Int64, false),
            number(SECONDS),
            Field::new(NOTE, DataType::Utf8View, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}
