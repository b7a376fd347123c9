//! The tables of activations: what calibration saw of each layer's input, and the quantizers made from it.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::{
    quantized::BITS,
    weights::{NAME, weights_type},
};

/// `timestep`: a step number, a noise level or a mask ratio.
pub const TIMESTEP: &str = "timestep";
/// `tokens`: how many vectors of the input were seen.
pub const TOKENS: &str = "tokens";
/// `channel_min`: the least value of each input channel.
pub const CHANNEL_MIN: &str = "channel_min";
/// `channel_max`: the largest value of each input channel.
pub const CHANNEL_MAX: &str = "channel_max";
/// `channel_mean_square`: the mean of the squares of each input channel.
pub const CHANNEL_MEAN_SQUARE: &str = "channel_mean_square";

/// `time_group`: the number of the group, from 0.
pub const TIME_GROUP: &str = "time_group";
/// `t_from`: the least timestep of the group; minus infinity for the first.
pub const T_FROM: &str = "t_from";
/// `t_to`: the least timestep after the group; infinity for the last.
pub const T_TO: &str = "t_to";
/// `scale`: the distance of two neighbouring codes.
pub const SCALE: &str = "scale";
/// `zero_point`: the code of zero.
pub const ZERO_POINT: &str = "zero_point";

/// Returns the schema of the activations table: one row per layer input and timestep. `name` is the name of the weight
/// tensor that the input is multiplied with; the lists have one element per input channel.
pub fn activations_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new(TIMESTEP, DataType::Float64, false),
        Field::new(TOKENS, DataType::Int64, false),
        Field::new(CHANNEL_MIN, weights_type(), false),
        Field::new(CHANNEL_MAX, weights_type(), false),
        Field::new(CHANNEL_MEAN_SQUARE, weights_type(), false),
    ]))
}

/// Returns the fields of an activation quantizer: `x = scale * (code - zero_point)`, with codes from 0 to `2^bits - 1`.
pub fn activation_params_fields() -> Fields {
    Fields::from(vec![Field::new(SCALE, DataType::Float32, true), Field::new(ZERO_POINT, DataType::Int32, true)])
}

/// Returns the type of an activation quantizer.
pub fn activation_params_type() -> DataType {
    DataType::Struct(activation_params_fields())
}

/// Returns the schema of the table of activation quantizers: `(name, time_group)` is its key. A timestep `t` belongs to
/// the group with `t_from <= t < t_to`; the groups of a name cover every timestep.
pub fn activation_params_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new(TIME_GROUP, DataType::Int32, false),
        Field::new(T_FROM, DataType::Float64, false),
        Field::new(T_TO, DataType::Float64, false),
        Field::new(SCALE, DataType::Float32, false),
        Field::new(ZERO_POINT, DataType::Int32, false),
        Field::new(BITS, DataType::Int64, false),
    ]))
}
