//! The quantized weights table: what the parts of an output folder hold.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{
    quantized::{QUANTIZED, quantized_type},
    weights::{CHANNEL, DATA, DTYPE, MODULE, NAME, SHAPE, shape_type},
};

/// Returns the schema of the quantized weights table. `(name, channel)` is its key. `quantized` is
/// null for a tensor that is copied unchanged, `data` for one that is quantized.
pub fn output_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(NAME, DataType::Utf8View, false),
            Field::new(MODULE, DataType::Utf8View, false),
            Field::new(DTYPE, DataType::Utf8View, false),
            Field::new(SHAPE, shape_type(), false),
            Field::new(CHANNEL, DataType::Int64, false),
            Field::new(QUANTIZED, quantized_type(), true),
            Field::new(DATA, DataType::Binary, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}
