//! How far channels are equalized: the option of a run.

use std::{fmt, str::FromStr};

use crate::types::OptionsError;

/// How much range the weights take over from the activations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Equalize {
    /// `SmoothQuant`'s alpha, 0 to 1, for every layer.
    Alpha(f64),
    /// For each layer the alpha of [`Equalize::GRID`] whose expected error is least, or none.
    Auto,
    /// Log equalization, from the activations alone.
    Log,
}

impl Equalize {
    /// The alphas that [`Equalize::Auto`] tries.
    pub const GRID: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
}

impl fmt::Display for Equalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alpha(alpha) => alpha.fmt(f),
            Self::Auto => f.write_str("auto"),
            Self::Log => f.write_str("log"),
        }
    }
}

impl FromStr for Equalize {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("log", _) => Ok(Self::Log),
            (_, Ok(alpha)) if (0.0..=1.0).contains(&alpha) => Ok(Self::Alpha(alpha)),
            _ => {
                Err(OptionsError::new(format!("equalize must be a number from 0 to 1, 'auto' or 'log', not '{text}'")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_says_what_is_accepted() {
        for (text, expected) in [("0.5", Equalize::Alpha(0.5)), ("auto", Equalize::Auto), ("log", Equalize::Log)] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for text in ["1.5", "-1", "NaN", "", "max"] {
            let error = text.parse::<Equalize>().unwrap_err().to_string();
            assert_eq!(error, format!("equalize must be a number from 0 to 1, 'auto' or 'log', not '{text}'"));
        }
    }
}
