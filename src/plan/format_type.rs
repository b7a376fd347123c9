//! The type of a tensor in a format that has types of its own.

use std::fmt;

use super::formats::{comfy::options::ComfyType, gguf::options::GgufType};
use crate::types::{Encoding, MlxType};

/// The type that a tensor is to have in a format that has types of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatType {
    /// A type of GGUF.
    Gguf(GgufType),
    /// A type of `ComfyUI`'s files.
    Comfy(ComfyType),
    /// A type of folders of MLX.
    Mlx(MlxType),
}

impl FormatType {
    /// Returns the bits of a number of the type.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::Gguf(kind) => match kind.encoding() {
                Encoding::Block(block) => block.bits(),
                encoding => 8 * encoding.row_bytes(1).unwrap_or_default() as u8,
            },
            Self::Comfy(kind) => kind.layout().bits(),
            Self::Mlx(kind) => kind.bits(),
        }
    }
}

impl fmt::Display for FormatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gguf(kind) => kind.fmt(f),
            Self::Comfy(kind) => kind.fmt(f),
            Self::Mlx(kind) => kind.fmt(f),
        }
    }
}
