//! The codes of a weight as an option names them: bits that need not be whole, and the method.

use std::{fmt, str::FromStr};

use super::{Bits, Method, OptionsError};

/// Bits a weight: any number from 1 to 8 where codes are of variable length, else 2, 3, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
#[serde(into = "super::number_or_text::NumberOrText", try_from = "super::number_or_text::NumberOrText")]
pub struct Rate(f64);

impl Rate {
    /// Returns the number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Returns the width of codes of a fixed width.
    ///
    /// # Errors
    /// Returns an error unless the bits are 2, 3, 4 or 8.
    pub fn fixed(self) -> Result<Bits, OptionsError> {
        let accepted = Bits::ALL.into_iter().find(|bits| f64::from(bits.get()) == self.0);
        accepted.ok_or_else(|| OptionsError::new(format!("bits must be 2, 3, 4 or 8, not {self}")))
    }
}

impl From<Bits> for Rate {
    fn from(bits: Bits) -> Self {
        Self(f64::from(bits.get()))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Rate {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let rate = text.parse().ok().filter(|rate| (1.0..=8.0).contains(rate)).map(Self);
        rate.ok_or_else(|| {
            let problem =
                format!("bits must be 2, 3, 4 or 8, or with method 'entropy' any number from 1 to 8, not '{text}'");
            OptionsError::new(problem)
        })
    }
}

/// The kind of codes: of a fixed width, with scales that a [`Method`] chooses, or entropy-coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Codes of a fixed width.
    Fixed(Method),
    /// Codes of variable length.
    Entropy,
}

impl Coding {
    /// The name of codes of variable length.
    pub const ENTROPY: &'static str = "entropy";

    /// Returns the method that chooses scales; none where there are none.
    #[must_use]
    pub const fn method(self) -> Option<Method> {
        match self {
            Self::Fixed(method) => Some(method),
            Self::Entropy => None,
        }
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.method().map_or(Self::ENTROPY, Method::name))
    }
}

impl FromStr for Coding {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        if text == Self::ENTROPY {
            return Ok(Self::Entropy);
        }
        text.parse()
            .map(Self::Fixed)
            .map_err(|_| OptionsError::new(format!("method must be 'search', 'minmax' or 'entropy', not '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_read_back_as_written() {
        for coding in [Coding::Fixed(Method::Search), Coding::Fixed(Method::Minmax), Coding::Entropy] {
            assert_eq!(coding.to_string().parse(), Ok(coding));
        }
        for (text, json) in [("2", "2"), ("2.5", "2.5"), ("8.0", "8")] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(serde_json::to_string(&rate).unwrap(), json);
            assert_eq!(serde_json::from_str::<Rate>(json).unwrap(), rate);
        }
        assert_eq!("4".parse::<Rate>().unwrap().fixed(), Ok(Bits::Four));
    }

    #[test]
    fn what_is_accepted_is_said() {
        assert_eq!(
            "2.5".parse::<Rate>().unwrap().fixed().unwrap_err().to_string(),
            "bits must be 2, 3, 4 or 8, not 2.5"
        );
        for text in ["x", "0.9", "8.1", "NaN", ""] {
            let error = text.parse::<Rate>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("any number from 1 to 8, not '{text}'")), "{error}");
        }
        let error = "hqq".parse::<Coding>().unwrap_err().to_string();
        assert_eq!(error, "method must be 'search', 'minmax' or 'entropy', not 'hqq'");
    }
}
