//! The weights table: one row is one output channel of one tensor.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

/// `name`: the tensor's name as in the file.
pub const NAME: &str = "name";
/// `layer`: the first integer part of the name; null where there is none.
pub const LAYER: &str = "layer";
/// `module`: the name without layer prefix and `.weight`.
pub const MODULE: &str = "module";
/// `dtype`: as stored, in the words of safetensors: `BF16`, `F32`, `I64` ...
pub const DTYPE: &str = "dtype";
/// `shape`: of the whole tensor.
pub const SHAPE: &str = "shape";
/// `channel`: the row's number inside the tensor.
pub const CHANNEL: &str = "channel";
/// `weights`: the row widened to f32; null when the dtype is not a float.
pub const WEIGHTS: &str = "weights";
/// `data`: the same row as stored, byte for byte.
pub const DATA: &str = "data";

/// Returns `List<Float32>`, the type of a row of weights.
pub fn weights_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)))
}

/// Returns `List<Int64>`, the type of a shape.
pub fn shape_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))
}

/// Returns the schema of the weights table. `(name, channel)` is its key.
pub fn weights_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new(NAME, DataType::Utf8View, false),
            Field::new(LAYER, DataType::Int32, true),
            Field::new(MODULE, DataType::Utf8View, false),
            Field::new(DTYPE, DataType::Utf8View, false),
            Field::new(SHAPE, shape_type(), false),
            Field::new(CHANNEL, DataType::Int64, false),
            Field::new(WEIGHTS, weights_type(), true),
            Field::new(DATA, DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}
