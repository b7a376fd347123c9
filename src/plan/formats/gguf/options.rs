//! The options of GGUF.

use std::{fmt, str::FromStr};

use strum::{Display, EnumString};

use crate::types::{Bits, Block, Encoding, Float, serde_as_text};

serde_as_text!(Misfit, GgufType);

/// The treatment of a tensor whose rows do not divide into blocks of its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Display, EnumString)]
#[strum(serialize_all = "lowercase", parse_err_ty = String, parse_err_fn = unknown_misfit)]
pub enum Misfit {
    /// Nothing is written.
    Error,
    /// It stays as it is.
    Keep,
    /// It gets the type of 32 weights that is next in size, or stays as it is where that does not fit either.
    #[default]
    Fallback,
}

fn unknown_misfit(text: &str) -> String {
    format!("must be error, keep or fallback, not '{text}'")
}

/// The type of a tensor in GGUF: one of the floats that engines read, or blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GgufType(Encoding);

impl GgufType {
    /// The types that a budget chooses among, the fewest bits first.
    pub const WIDTHS: [Self; 6] = [
        Self(Encoding::Block(Block::Q2_K)),
        Self(Encoding::Block(Block::Q3_K)),
        Self(Encoding::Block(Block::Q4_K)),
        Self(Encoding::Block(Block::Q5_K)),
        Self(Encoding::Block(Block::Q6_K)),
        Self(Encoding::Block(Block::Q8_0)),
    ];

    /// Returns the type of a tensor quantized to so many bits where no type is asked for.
    pub const fn of_bits(bits: Bits) -> Self {
        Self(Encoding::Block(match bits {
            Bits::Two => Block::Q2_K,
            Bits::Three => Block::Q3_K,
            Bits::Four => Block::Q4_K,
            Bits::Eight => Block::Q8_0,
        }))
    }

    /// Returns how rows of the type are encoded.
    pub const fn encoding(self) -> Encoding {
        self.0
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.dtype())
    }
}

impl FromStr for GgufType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let floats = [Float::F32, Float::F16, Float::BF16].map(Encoding::Float);
        let types: Vec<Encoding> = floats.into_iter().chain(Block::ALL.iter().copied().map(Encoding::Block)).collect();
        if let Some(found) = types.iter().find(|encoding| encoding.dtype() == text) {
            return Ok(Self(*found));
        }
        let names: Vec<&str> = types.iter().map(Encoding::dtype).collect();
        let is_mixture = text.ends_with("_S") || text.ends_with("_M") || text.ends_with("_L");
        let hint = if is_mixture { "; a mixture is one of them and `gguf_type_for` 'REGEX=TYPE'" } else { "" };
        Err(format!("unknown GGUF type '{text}'; expected one of {}{hint}", names.join(", ")))
    }
}
