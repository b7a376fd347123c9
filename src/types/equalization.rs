//! The table of an equalized model: what each layer's inputs are multiplied by at run time.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::weights::{NAME, weights_type};

/// `factors`: what each row of the weights was multiplied by before it was quantized.
pub const FACTORS: &str = "factors";
/// `input_scale`: one over each factor, what the input channels are multiplied by at run time.
pub const INPUT_SCALE: &str = "input_scale";

/// The schema of the equalization: `name` is its key; the lists have one element per input channel.
pub fn equalization_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new(FACTORS, weights_type(), false),
        Field::new(INPUT_SCALE, weights_type(), false),
    ]))
}
