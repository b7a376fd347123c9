//! The option that says how channels are equalized.

use std::{fmt, str::FromStr};

use super::OptionsError;

/// The source of the factors that equalize channels.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(into = "super::number_or_text::NumberOrText", try_from = "super::number_or_text::NumberOrText")]
pub enum Equalize {
    /// `SmoothQuant`'s alpha, 0 to 1, for every layer.
    Alpha(f64),
    /// For each layer the alpha of [`Equalize::GRID`] whose expected error is least, or none.
    Auto,
    /// Log equalization, from the activations alone.
    Log,
    /// From the weights alone.
    Weights,
}

impl Equalize {
    /// The alphas that [`Equalize::Auto`] tries.
    pub const GRID: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

    /// Returns true if the factors are computed from activations.
    #[must_use]
    pub fn needs_activations(self) -> bool {
        self != Self::Weights
    }
}

impl fmt::Display for Equalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alpha(alpha) => alpha.fmt(f),
            Self::Auto => f.write_str("auto"),
            Self::Log => f.write_str("log"),
            Self::Weights => f.write_str("weights"),
        }
    }
}

impl FromStr for Equalize {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("log", _) => Ok(Self::Log),
            ("weights", _) => Ok(Self::Weights),
            (_, Ok(alpha)) if (0.0..=1.0).contains(&alpha) => Ok(Self::Alpha(alpha)),
            _ => Err(OptionsError::new(format!(
                "equalize must be a number from 0 to 1, 'auto', 'log' or 'weights', not '{text}'"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_equalization_reads_back_as_written() {
        for by in [Equalize::Alpha(0.25), Equalize::Auto, Equalize::Log, Equalize::Weights] {
            assert_eq!(by.to_string().parse(), Ok(by));
        }
        for wrong in ["-0.1", "1.1", "NaN", "autos"] {
            let error = wrong.parse::<Equalize>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("not '{wrong}'")), "{error}");
        }
    }
}
