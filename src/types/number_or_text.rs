//! A value that JSON and Python write as a number or as a word.

use std::{fmt::Display, str::FromStr};

use super::{Equalize, GroupSize, OptionsError, Rate};

/// A number or a word, as it stands in JSON.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum NumberOrText {
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A word.
    Text(String),
}

impl NumberOrText {
    fn parse<T: FromStr<Err = OptionsError>>(&self) -> Result<T, OptionsError> {
        match self {
            Self::Integer(number) => number.to_string().parse(),
            Self::Number(number) => number.to_string().parse(),
            Self::Text(text) => text.parse(),
        }
    }

    fn of(value: &impl Display) -> Self {
        let text = value.to_string();
        let number = text.parse().map(Self::Integer).or_else(|_| text.parse().map(Self::Number));
        number.unwrap_or(Self::Text(text))
    }
}

/// Writes and reads types by the text that stands for them.
macro_rules! by_text {
    ($($type:ty),+) => {$(
        impl TryFrom<NumberOrText> for $type {
            type Error = OptionsError;

            fn try_from(value: NumberOrText) -> Result<Self, OptionsError> {
                value.parse()
            }
        }

        impl From<$type> for NumberOrText {
            fn from(value: $type) -> Self {
                Self::of(&value)
            }
        }
    )+};
}

by_text!(Equalize, GroupSize, Rate);
