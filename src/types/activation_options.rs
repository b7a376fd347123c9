//! The options of the quantizers of activations: their bits, and the way that timesteps are grouped.

use std::{fmt, str::FromStr};

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::OptionsError;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = OptionsError, parse_err_fn = unknown_method)]
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
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the name as SQL and the command line write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_method(text: &str) -> OptionsError {
    OptionsError::new(format!("method must be 'uniform', 'quantile' or 'optimal', not '{text}'"))
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
        assert!(TimeMethod::ALL.iter().all(|method| method.name().parse() == Ok(*method)));
    }
}
