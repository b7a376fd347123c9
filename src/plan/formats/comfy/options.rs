//! The options of `ComfyUI`'s files.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::types::{ComfyLayout, serde_as_text};

serde_as_text!(ComfyType);

/// The type of a layer in `ComfyUI`'s files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = unknown)]
pub enum ComfyType {
    /// 8 bits, rotated where rows divide.
    Int8,
    /// 8 bits, not rotated.
    Int8Rows,
    /// 4.5 bits that are multiplied as 8.
    W4a8,
    /// 6.5 bits that are multiplied as 8.
    W6a8,
    /// 4 bits, with activations of 4 bits.
    W4a4,
    /// E4M3.
    Fp8,
    /// E2M1 in blocks of 16.
    Nvfp4,
    /// E4M3 in blocks of 32.
    Mxfp8,
}

impl ComfyType {
    /// Returns the layout.
    pub const fn layout(self) -> ComfyLayout {
        match self {
            Self::Int8 | Self::Int8Rows => ComfyLayout::Int8,
            Self::W4a8 => ComfyLayout::W4a8,
            Self::W6a8 => ComfyLayout::W6a8,
            Self::W4a4 => ComfyLayout::W4a4,
            Self::Fp8 => ComfyLayout::Fp8,
            Self::Nvfp4 => ComfyLayout::Nvfp4,
            Self::Mxfp8 => ComfyLayout::Mxfp8,
        }
    }

    /// Returns true if a tensor of the type has another shape than its weights.
    pub const fn is_packed(self) -> bool {
        self.layout().bits() < 8
    }
}

fn unknown(text: &str) -> String {
    let names = ComfyType::VARIANTS.iter().map(Into::<&str>::into).collect::<Vec<_>>().join(", ");
    format!("must be one of {names}, not '{text}'")
}
