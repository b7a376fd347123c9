//! How channels are equalized: the option of a run, and the inputs of the model that it is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use crate::{io::equalization::Folds, types::OptionsError};

/// The factors of each input, by name.
pub type Factors = BTreeMap<String, Vec<f32>>;

/// What the factors of channels are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
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

    /// Refuses Hessians, and what needs activations without them.
    ///
    /// # Errors
    /// It needs activations and has none, or it has Hessians: they are those of inputs as they were.
    pub fn check(self, activations: bool, hessians: bool) -> Result<(), OptionsError> {
        if hessians {
            let problem = "--hessians cannot be used with --equalize: they are those of inputs that are not equalized";
            return Err(OptionsError::new(problem.to_owned()));
        }
        if activations || self == Self::Weights {
            return Ok(());
        }
        let problem = format!("--equalize {self} needs --activations FILE; without activations, --equalize weights");
        Err(OptionsError::new(problem))
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

/// The inputs that a run equalizes.
#[derive(Debug)]
pub struct EqualizedInputs {
    /// What their factors are made of.
    pub(super) by: Equalize,
    /// Which of them can be folded.
    pub(super) folds: Folds,
    /// The input of each layer that is to be equalized, by its name: that of the first layer that takes it.
    pub(super) of_layers: BTreeMap<String, String>,
    /// The layers that are not, by name, and why: those of a format that has no place for factors that cannot be folded.
    pub(super) left_alone: BTreeMap<String, String>,
    /// The norms and biases, by number, that factors may be folded into.
    pub(super) divided_vectors: BTreeSet<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_says_what_is_accepted() {
        for (text, expected) in [
            ("0.5", Equalize::Alpha(0.5)),
            ("auto", Equalize::Auto),
            ("log", Equalize::Log),
            ("weights", Equalize::Weights),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for text in ["1.5", "-1", "NaN", "", "max"] {
            let error = text.parse::<Equalize>().unwrap_err().to_string();
            let expected = "equalize must be a number from 0 to 1, 'auto', 'log' or 'weights', not";
            assert_eq!(error, format!("{expected} '{text}'"));
        }
    }
}
