//! Patterns of tensor names, and values for the tensors that one matches.

use std::{fmt, ops::Deref, str::FromStr};

use regex::Regex;

use crate::types::serde_as_text;

serde_as_text!(Pattern);

/// A regular expression that matches anywhere in a tensor's name.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Deref for Pattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Regex::new(text).map(Self).map_err(|error| {
            // The library draws where the error is, over several lines.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("'{text}' is not a regular expression: {reason}")
        })
    }
}

/// A pattern, and the value of the tensors that it matches. Written `REGEX=VALUE`; the last `=` counts.
#[derive(Debug, Clone, PartialEq)]
pub struct PatternRule<T> {
    /// The pattern.
    pub pattern: Pattern,
    /// The value.
    pub value: T,
}

impl<T> PatternRule<T> {
    /// Returns the last of the rules that matches a name.
    pub fn last_match<'a>(rules: &'a [Self], name: &str) -> Option<&'a Self> {
        rules.iter().rev().find(|rule| rule.pattern.is_match(name))
    }
}

impl<T: fmt::Display> fmt::Display for PatternRule<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.pattern, self.value)
    }
}

impl<T: FromStr<Err: fmt::Display>> FromStr for PatternRule<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, value) =
            text.rsplit_once('=').ok_or_else(|| format!("'{text}' is not of the form REGEX=VALUE"))?;
        let value = value.parse().map_err(|error| format!("'{text}': {error}"))?;
        Ok(Self { pattern: pattern.parse()?, value })
    }
}

impl<T: fmt::Display> serde::Serialize for PatternRule<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T: FromStr<Err: fmt::Display>> serde::Deserialize<'de> for PatternRule<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
