//! What GGUF lets one choose.

use std::{collections::BTreeMap, fmt, str::FromStr};

use regex::Regex;

use crate::{
    io::IoError,
    types::{Bits, Block, Encoding, Float},
};

/// What becomes of a tensor whose rows do not divide into blocks of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfit {
    /// Nothing is written.
    Error,
    /// It stays as it is.
    Keep,
    /// It gets the type of 32 weights that is next in size, or stays as it is where that does not fit either.
    #[default]
    Fallback,
}

impl Misfit {
    const ALL: [Self; 3] = [Self::Error, Self::Keep, Self::Fallback];

    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Keep => "keep",
            Self::Fallback => "fallback",
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Misfit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|misfit| misfit.name() == text);
        found.ok_or_else(|| format!("must be error, keep or fallback, not '{text}'"))
    }
}

/// The choices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GgufOptions {
    /// The type of quantized tensors; none: by their bits, `Q2_K`, `Q3_K`, `Q4_K` or `Q8_0`.
    pub kind: Option<Encoding>,
    /// `REGEX=TYPE`: the type of the quantized tensors whose name in the source matches; the last match counts.
    pub kind_for: Vec<String>,
    /// What becomes of rows that do not divide into blocks.
    pub misfit: Misfit,
    /// `general.architecture`; none: by the names of the tensors or by `config.json`.
    pub architecture: Option<String>,
    /// `tokenizer.ggml.pre` of a language model; none: by the pattern in `tokenizer.json`.
    pub pre: Option<String>,
}

impl GgufOptions {
    /// The options by their names, for a manifest to record.
    pub fn describe(&self) -> BTreeMap<String, serde_json::Value> {
        let kind = self.kind.map_or("by bits".to_owned(), |kind| kind.to_string());
        [
            ("gguf_type", kind.into()),
            ("gguf_type_for", self.kind_for.clone().into()),
            ("misfit", self.misfit.name().into()),
            ("gguf_architecture", self.architecture.clone().into()),
            ("gguf_pre", self.pre.clone().into()),
        ]
        .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value))
        .into()
    }

    /// The rules of `kind_for`, compiled.
    ///
    /// # Errors
    /// One is not a pattern and a type.
    pub(super) fn rules(&self) -> Result<Vec<(Regex, Encoding)>, IoError> {
        self.kind_for.iter().map(|rule| compile(rule)).collect()
    }

    /// The type of a name: floats that engines read, or blocks.
    ///
    /// # Errors
    /// It is none; the message lists them.
    pub fn parse_kind(text: &str) -> Result<Encoding, String> {
        let floats = [Float::F32, Float::F16, Float::BF16].map(Encoding::Float);
        let kinds: Vec<Encoding> = floats.into_iter().chain(Block::ALL.map(Encoding::Block)).collect();
        if let Some(kind) = kinds.iter().find(|kind| kind.dtype() == text) {
            return Ok(*kind);
        }
        let names: Vec<&str> = kinds.iter().map(Encoding::dtype).collect();
        let is_mixture = text.ends_with("_S") || text.ends_with("_M") || text.ends_with("_L");
        let hint = if is_mixture { "; a mixture is one of them and --gguf-type-for 'REGEX=TYPE'" } else { "" };
        Err(format!("must be one of {}{hint}, not '{text}'", names.join(", ")))
    }

    /// The type of a quantized tensor.
    pub(super) fn kind_of(&self, rules: &[(Regex, Encoding)], name: &str, bits: Bits) -> Encoding {
        let ruled = rules.iter().rev().find(|(pattern, _)| pattern.is_match(name)).map(|(_, kind)| *kind);
        ruled.or(self.kind).unwrap_or(Encoding::Block(match bits.get() {
            2 => Block::Q2_K,
            3 => Block::Q3_K,
            4 => Block::Q4_K,
            _ => Block::Q8_0,
        }))
    }
}

fn compile(rule: &str) -> Result<(Regex, Encoding), IoError> {
    let refuse = |problem: String| IoError::Request(format!("--gguf-type-for '{rule}' {problem}"));
    let (pattern, kind) = rule.rsplit_once('=').ok_or_else(|| refuse("is not REGEX=TYPE".to_owned()))?;
    let kind = GgufOptions::parse_kind(kind).map_err(|problem| refuse(format!("has no type of GGUF: it {problem}")))?;
    let pattern = Regex::new(pattern).map_err(|error| {
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        refuse(format!("does not begin with a regular expression: {reason}"))
    })?;
    Ok((pattern, kind))
}
