//! The factor that GPTQ needs of a layer, with what it took to get it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::{activations::TOKENS, weights::NAME};

/// `damping`: the share of the mean of the Hessian's diagonal that was added to it.
pub const DAMPING: &str = "damping";
/// `dead_channels`: input channels that were zero throughout.
pub const DEAD_CHANNELS: &str = "dead_channels";
/// `factor`: the upper triangle, row after row. A view, so that a join shares it among rows instead of copying it.
pub const FACTOR: &str = "factor";

/// `hessian`: the mean over all tokens of the products of a layer's inputs, the upper triangle row after row.
pub const HESSIAN: &str = "hessian";

/// Returns the fields of a factor, in order.
pub fn factor_fields() -> Fields {
    let triangle = DataType::ListView(Arc::new(Field::new_list_field(DataType::Float32, true)));
    Fields::from(vec![
        Field::new(DAMPING, DataType::Float64, true),
        Field::new(DEAD_CHANNELS, DataType::Int64, true),
        Field::new(FACTOR, triangle, true),
    ])
}

/// Returns the type of a factor.
pub fn factor_type() -> DataType {
    DataType::Struct(factor_fields())
}

/// Returns `List<Float64>`: the upper triangle of a Hessian, row after row.
pub fn hessian_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::Float64, true)))
}

/// Returns the schema of the table of Hessians that calibration writes: one row per layer. `name` is that of the weight
/// tensor that the input is multiplied with, `tokens` the number of inputs that were seen.
pub fn hessians_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new(TOKENS, DataType::Int64, false),
        Field::new(HESSIAN, hessian_type(), false),
    ]))
}

/// Returns the schema of the table of factors that `sql/quantize.sql` joins: `name` is its key.
pub fn factors_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(NAME, DataType::Utf8View, false), Field::new(FACTOR, factor_type(), true)]))
}
