//! The block types of GGUF: what a row of a tensor is stored as in files that llama.cpp and its relatives load.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::OptionsError;

/// Consecutive weights of a row that share scales. The names are those of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = OptionsError, parse_err_fn = unknown)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are the documentation: those of the format")]
pub enum Block {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl Block {
    /// Every type.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the weights of a block: 32 or 256.
    #[must_use]
    pub const fn weights(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Returns the bytes of a block.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Returns the bits of a code.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Q2_K => 2,
            Self::Q3_K => 3,
            Self::Q4_0 | Self::Q4_1 | Self::Q4_K => 4,
            Self::Q5_0 | Self::Q5_1 | Self::Q5_K => 5,
            Self::Q6_K => 6,
            Self::Q8_0 => 8,
        }
    }

    /// Returns the weights that share a scale.
    #[must_use]
    pub const fn group_size(self) -> u32 {
        match self {
            Self::Q2_K | Self::Q3_K | Self::Q6_K => 16,
            _ => 32,
        }
    }

    /// Returns the type of 32 weights that is next in size, for rows that do not divide into blocks of 256.
    #[must_use]
    pub const fn of_32(self) -> Self {
        match self {
            Self::Q2_K | Self::Q3_K => Self::Q4_0,
            Self::Q4_K => Self::Q5_0,
            Self::Q5_K => Self::Q5_1,
            Self::Q6_K => Self::Q8_0,
            of_32 => of_32,
        }
    }
}

fn unknown(text: &str) -> OptionsError {
    let names = Block::ALL.iter().map(|block| block.name()).collect::<Vec<_>>().join(", ");
    OptionsError::new(format!("the block type must be one of {names}, not '{text}'"))
}
