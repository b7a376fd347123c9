//! The tables of activations: what calibration saw of each layer's input, and the quantizers made from it.

use std::{fmt, str::FromStr, sync::Arc};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};

use super::{
    OptionsError,
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

/// Bits of an activation's code: 2 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "u8", try_from = "i64")]
pub struct ActivationBits(u8);

impl ActivationBits {
    /// Eight bits, the default.
    pub const EIGHT: Self = Self(8);

    /// Returns the width as a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Returns the largest code, `2^bits - 1`.
    #[must_use]
    pub const fn max_code(self) -> u8 {
        ((1u16 << self.0) - 1) as u8
    }
}

impl From<ActivationBits> for u8 {
    fn from(bits: ActivationBits) -> Self {
        bits.0
    }
}

impl TryFrom<i64> for ActivationBits {
    type Error = OptionsError;

    fn try_from(value: i64) -> Result<Self, OptionsError> {
        match value {
            2..=8 => Ok(Self(value as u8)),
            _ => Err(OptionsError::new(format!("bits of activations must be 2 to 8, not {value}"))),
        }
    }
}

impl FromStr for ActivationBits {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let value: i64 =
            text.parse().map_err(|_| OptionsError::new(format!("bits of activations must be 2 to 8, not '{text}'")))?;
        Self::try_from(value)
    }
}

impl fmt::Display for ActivationBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The method that cuts the timesteps into groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeMethod {
    /// Groups of equal length in time.
    Uniform,
    /// Groups of as many timesteps.
    Quantile,
    /// The groups whose quantizers lose least.
    #[default]
    Optimal,
}

impl TimeMethod {
    /// Every method.
    pub const ALL: [Self; 3] = [Self::Uniform, Self::Quantile, Self::Optimal];

    /// Returns the name as SQL and the command line write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Quantile => "quantile",
            Self::Optimal => "optimal",
        }
    }
}

impl fmt::Display for TimeMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TimeMethod {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            OptionsError::new(format!("method must be 'uniform', 'quantile' or 'optimal', not '{text}'"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_is_accepted() {
        assert_eq!(
            (ActivationBits::try_from(6).unwrap().max_code(), "8".parse::<ActivationBits>().unwrap().get()),
            (63, 8)
        );
        for wrong in ["1", "9", "x"] {
            let error = wrong.parse::<ActivationBits>().unwrap_err().to_string();
            assert!(error.starts_with("bits of activations must be 2 to 8, not"), "{error}");
        }
        let error = "even".parse::<TimeMethod>().unwrap_err().to_string();
        assert_eq!(error, "method must be 'uniform', 'quantile' or 'optimal', not 'even'");
        assert!(TimeMethod::ALL.into_iter().all(|method| method.name().parse() == Ok(method)));
    }
}
