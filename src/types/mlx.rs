//! The ways in which MLX stores the rows of a quantized layer, and their names.

use std::{fmt, str::FromStr};

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::{Bits, Float, Method, OptionsError};

/// The codes of a layer in MLX: integers with a scale and a bias for each group, or small floats with a scale for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = OptionsError, parse_err_fn = unknown)]
pub enum MlxType {
    /// Codes 0 to 3 in the mode `affine`.
    Int2,
    /// Codes 0 to 7 in the mode `affine`.
    Int3,
    /// Codes 0 to 15 in the mode `affine`.
    Int4,
    /// Codes 0 to 31 in the mode `affine`.
    Int5,
    /// Codes 0 to 63 in the mode `affine`.
    Int6,
    /// Codes 0 to 255 in the mode `affine`.
    Int8,
    /// E2M1 in blocks of 32 with powers of two as scales.
    Mxfp4,
    /// E4M3 in blocks of 32 with powers of two as scales.
    Mxfp8,
    /// E2M1 in blocks of 16 with E4M3 as scales.
    Nvfp4,
}

impl MlxType {
    /// Every type.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The integers, the fewest bits first.
    pub const WIDTHS: [Self; 6] = [Self::Int2, Self::Int3, Self::Int4, Self::Int5, Self::Int6, Self::Int8];

    /// Returns the integers of a width.
    #[must_use]
    pub const fn of_bits(bits: Bits) -> Self {
        match bits {
            Bits::Two => Self::Int2,
            Bits::Three => Self::Int3,
            Bits::Four => Self::Int4,
            Bits::Eight => Self::Int8,
        }
    }

    /// Returns the bits of a code.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Int2 => 2,
            Self::Int3 => 3,
            Self::Int4 | Self::Mxfp4 | Self::Nvfp4 => 4,
            Self::Int5 => 5,
            Self::Int6 => 6,
            Self::Int8 | Self::Mxfp8 => 8,
        }
    }

    /// Returns the weights of a block of small floats; none for integers, whose groups have one of [`Mlx::GROUP_SIZES`].
    #[must_use]
    pub const fn block(self) -> Option<u32> {
        match self {
            Self::Mxfp4 | Self::Mxfp8 => Some(32),
            Self::Nvfp4 => Some(16),
            _ => None,
        }
    }

    /// Returns the mode, as MLX names it.
    #[must_use]
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
            _ => "affine",
        }
    }

    /// Returns the type as the weights table names it.
    #[must_use]
    pub const fn dtype(self) -> &'static str {
        match self {
            Self::Int2 => "MLX_INT2",
            Self::Int3 => "MLX_INT3",
            Self::Int4 => "MLX_INT4",
            Self::Int5 => "MLX_INT5",
            Self::Int6 => "MLX_INT6",
            Self::Int8 => "MLX_INT8",
            Self::Mxfp4 => "MLX_MXFP4",
            Self::Mxfp8 => "MLX_MXFP8",
            Self::Nvfp4 => "MLX_NVFP4",
        }
    }
}

fn unknown(text: &str) -> OptionsError {
    let names = MlxType::ALL.iter().map(Into::<&str>::into).collect::<Vec<_>>().join(", ");
    OptionsError::new(format!("must be one of {names}, not '{text}'"))
}

/// A row as MLX stores it: what the tensors of a layer hold of it, one after the other.
///
/// Integers: the codes, least significant bit first; a scale for each group; a bias for each group, both in the float of the
/// layer. `weight = code * scale + bias`, both results rounded to that float. Small floats: the codes, and a byte for each block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mlx {
    /// The type of the codes.
    pub kind: MlxType,
    /// The weights of a group or block.
    pub group_size: u32,
    /// The float of scales and biases: not F64. BF16 for small floats, which have none.
    pub float: Float,
    /// The method that chooses scales and biases.
    pub method: Method,
}

impl Mlx {
    /// The sizes of groups that MLX multiplies.
    pub const GROUP_SIZES: [u32; 3] = [32, 64, 128];

    /// Returns a layer of a type; the size of groups counts for integers alone.
    #[must_use]
    pub fn new(kind: MlxType, group_size: u32) -> Self {
        let group_size = kind.block().unwrap_or(group_size);
        Self { kind, group_size, float: Float::BF16, method: Method::Search }
    }

    /// Returns the bytes of a row in each tensor of a layer, in their order; none where rows of `length` weights cannot be
    /// stored so.
    #[must_use]
    pub fn shares(&self, length: usize) -> Option<Vec<usize>> {
        let size = self.group_size as usize;
        let known =
            self.kind.block().map_or(Self::GROUP_SIZES.contains(&self.group_size), |block| block == self.group_size);
        if !known || !length.is_multiple_of(size) {
            return None;
        }
        // A multiple of 16 codes: whole words at every width.
        let codes = length / 8 * usize::from(self.kind.bits());
        let groups = length / size;
        Some(match self.kind.block() {
            Some(_) => vec![codes, groups],
            None => vec![codes, groups * self.float.bytes(), groups * self.float.bytes()],
        })
    }
}

impl fmt::Display for Mlx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mlx:{}", self.kind)?;
        if self.kind.block().is_none() {
            write!(f, ":g{}:{}", self.group_size, self.float)?;
        }
        write!(f, ":{}", self.method)
    }
}

impl FromStr for Mlx {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(':');
        let kind = words.next().filter(|word| *word == "mlx").and_then(|_| words.next()?.parse().ok()).ok_or(())?;
        let mut mlx = Self::new(kind, 64);
        if kind.block().is_none() {
            let size = words.next().and_then(|word| word.strip_prefix('g')?.parse().ok());
            mlx.group_size = size.filter(|size| Self::GROUP_SIZES.contains(size)).ok_or(())?;
            let float = words.next().and_then(|word| word.parse().ok());
            mlx.float = float.filter(|float| *float != Float::F64).ok_or(())?;
        }
        if let Some(word) = words.next() {
            mlx.method = word.parse().map_err(|_| ())?;
        }
        if words.next().is_some() { Err(()) } else { Ok(mlx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Encoding;

    #[test]
    fn a_name_reads_back_as_its_layout() {
        for text in ["mlx:int6:g64:BF16:search", "mlx:int2:g128:F16:minmax", "mlx:mxfp4:search", "mlx:nvfp4:minmax"] {
            assert_eq!(text.parse::<Encoding>().unwrap().to_string(), text);
        }
        assert_eq!("mlx:int4:g32:F32".parse(), "mlx:int4:g32:F32:search".parse::<Encoding>());
        for text in ["mlx", "mlx:int7:g64:BF16", "mlx:int4:g16:BF16", "mlx:int4:g64:F64", "mlx:int4", "mlx:mxfp4:g32"] {
            assert!(text.parse::<Encoding>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_shares_of_a_row_are_what_the_tensors_of_a_layer_hold() {
        let shares = |text: &str, length| text.parse::<Mlx>().unwrap().shares(length);
        assert_eq!(shares("mlx:int3:g32:BF16", 96), Some(vec![36, 6, 6]));
        assert_eq!(shares("mlx:int6:g64:F32", 128), Some(vec![96, 8, 8]));
        assert_eq!(shares("mlx:int4:g64:F16", 96), None);
        assert_eq!(shares("mlx:mxfp4", 64), Some(vec![32, 2]));
        assert_eq!(shares("mlx:nvfp4", 48), Some(vec![24, 3]));
        assert_eq!(shares("mlx:mxfp8", 64), Some(vec![64, 2]));
    }
}
