//! The tensors table: one row per tensor, known from the headers alone.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::weights::{DTYPE, LAYER, MODULE, NAME, SHAPE, shape_type};

/// `parameters`: elements of the tensor.
pub const PARAMETERS: &str = "parameters";
/// `bytes`: as stored.
pub const BYTES: &str = "bytes";
/// `rows`: rows of the weights table that the tensor gives.
pub const ROWS: &str = "rows";
/// `row_length`: elements in each of them.
pub const ROW_LENGTH: &str = "row_length";
/// `file`: the file that holds the tensor, relative to the model.
pub const FILE: &str = "file";

/// Returns the schema of the tensors table. `name` is its key.
pub fn tensors_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(NAME, DataType::Utf8View, false),
            Field::new(LAYER, DataType::Int32, true),
            Field::new(MODULE, DataType::Utf8View, false),
            Field::new(DTYPE, DataType::Utf8View, false),
            Field::new(SHAPE, shape_type(), false),
            Field::new(PARAMETERS, DataType::Int64, false),
            Field::new(BYTES, DataType::Int64, false),
            Field::new(ROWS, DataType::Int64, false),
            Field::new(ROW_LENGTH, DataType::Int64, false),
            Field::new(FILE, DataType::Utf8View, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}
