//! The ways to store a row of weights in a file: the name that SQL, plans and files share, and the bytes a row takes.

use std::{fmt, str::FromStr};

use super::{Bits, Block, Comfy, Float, Method, Mlx, OptionsError};

/// Codes with a scale, and where they are asymmetric a zero point, for each group: what the `pack-quantized` format of
/// compressed-tensors holds of a row. The scales are stored as floats, the zero points as codes.
///
/// A row is: the packed codes, filled up with zero bits to whole words of 32 bits; a scale for each group; a byte for each
/// group, its zero point, unless symmetric. `weight = scale * (code - zero_point)`, rounded to the float of the scale,
/// and `2^(bits-1)` is the zero point of symmetric codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packed {
    /// Bits per code.
    pub bits: Bits,
    /// Weights that share a scale. `None` means the whole row.
    pub group_size: Option<u32>,
    /// Without zero points.
    pub symmetric: bool,
    /// The float type of the scales: not F64.
    pub scale: Float,
    /// The method that chooses them.
    pub method: Method,
}

impl Packed {
    /// Returns the groups of a row; none where its length is not a multiple of their size.
    #[must_use]
    pub fn groups(&self, length: usize) -> Option<usize> {
        match self.group_size {
            None => Some(1),
            Some(size) => length.is_multiple_of(size as usize).then(|| length / size as usize),
        }
    }

    /// Returns the bytes of the codes of a row, in whole words.
    #[must_use]
    pub const fn code_bytes(&self, length: usize) -> usize {
        self.bits.packed_len(length).next_multiple_of(4)
    }
}

/// A way to store rows of weights, one row after the other, each by itself.
///
/// ```
/// use arrow_quant::types::Encoding;
///
/// let encoding: Encoding = "BF16".parse()?;
/// assert_eq!(encoding.row_bytes(100), Some(200));
/// # Ok::<(), arrow_quant::types::OptionsError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Floats, little-endian.
    Float(Float),
    /// Codes with the parameters of their groups.
    Packed(Packed),
    /// Blocks of GGUF, which rows are a multiple of.
    Block(Block),
    /// A row of a layer as `ComfyUI` stores it.
    Comfy(Comfy),
    /// A row of a layer as MLX stores it.
    Mlx(Mlx),
}

impl Encoding {
    /// The names that [`FromStr`] accepts, for messages.
    pub const ACCEPTED: &'static str = "F16, BF16, F32 or F64, a block type of GGUF (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K), \
         or of the form int4:g32:symmetric:BF16 (int2, int3, int4, int8; g and a number, or channel; \
         symmetric or asymmetric; the scale's dtype; and search or minmax, which may be left out), \
         or of the form comfy:w4a8:r256 (int8, w4a8, w6a8, w4a4, fp8, nvfp4 or mxfp8; r and the inputs of a rotation, \
         4, 16, 64 or 256; s and the scale of the tensor for fp8 and nvfp4; and search or minmax), \
         or of the form mlx:int4:g64:BF16 (int2, int3, int4, int5, int6 or int8; g and 32, 64 or 128; the dtype of scales and \
         biases; or mxfp4, mxfp8 or nvfp4 alone; and search or minmax)";

    /// Returns the type of a tensor that is stored so, as the weights table names it.
    #[must_use]
    pub fn dtype(&self) -> &'static str {
        match self {
            Self::Float(float) => float.name(),
            Self::Packed(packed) => match packed.bits {
                Bits::Two => "INT2",
                Bits::Three => "INT3",
                Bits::Four => "INT4",
                Bits::Eight => "INT8",
            },
            Self::Block(block) => block.name(),
            Self::Comfy(comfy) => comfy.layout.dtype(),
            Self::Mlx(mlx) => mlx.kind.dtype(),
        }
    }

    /// Returns the bytes of a row of `length` weights; none where rows of that length cannot be stored so.
    #[must_use]
    pub fn row_bytes(&self, length: usize) -> Option<usize> {
        match self {
            Self::Float(float) => length.checked_mul(float.bytes()),
            Self::Packed(packed) => {
                let groups = packed.groups(length)?;
                let group_bytes = packed.scale.bytes() + usize::from(!packed.symmetric);
                packed.code_bytes(length).checked_add(groups.checked_mul(group_bytes)?)
            }
            Self::Block(block) if length.is_multiple_of(block.weights()) => {
                (length / block.weights()).checked_mul(block.bytes())
            }
            Self::Block(_) => None,
            Self::Comfy(comfy) => comfy.shares(length).map(|shares| shares.iter().sum()),
            Self::Mlx(mlx) => mlx.shares(length).map(|shares| shares.iter().sum()),
        }
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(float) => float.fmt(f),
            Self::Packed(packed) => {
                let symmetric = if packed.symmetric { "symmetric" } else { "asymmetric" };
                write!(f, "int{}:", packed.bits)?;
                match packed.group_size {
                    Some(size) => write!(f, "g{size}")?,
                    None => f.write_str("channel")?,
                }
                write!(f, ":{symmetric}:{}:{}", packed.scale, packed.method)
            }
            Self::Block(block) => block.fmt(f),
            Self::Comfy(comfy) => comfy.fmt(f),
            Self::Mlx(mlx) => mlx.fmt(f),
        }
    }
}

impl FromStr for Encoding {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let known = if text.starts_with("comfy:") {
            text.parse().ok().map(Self::Comfy)
        } else if text.starts_with("mlx:") {
            text.parse().ok().map(Self::Mlx)
        } else if text.contains(':') {
            packed(text).map(Self::Packed)
        } else {
            let block = || text.parse().ok().map(Self::Block);
            text.parse().ok().map(Self::Float).or_else(block)
        };
        known.ok_or_else(|| OptionsError::new(format!("the encoding must be {}, not '{text}'", Self::ACCEPTED)))
    }
}

fn packed(text: &str) -> Option<Packed> {
    let mut words = text.split(':');
    let bits: Bits = words.next()?.strip_prefix("int")?.parse().ok()?;
    let group_size = match words.next()? {
        "channel" => None,
        group => Some(group.strip_prefix('g')?.parse().ok().filter(|size| *size > 0)?),
    };
    let symmetric = match words.next()? {
        "symmetric" => true,
        "asymmetric" => false,
        _ => return None,
    };
    let scale = words.next()?.parse().ok().filter(|scale| *scale != Float::F64)?;
    let method = words.next().map_or(Ok(Method::default_for(bits)), str::parse).ok()?;
    words.next().is_none().then_some(Packed { bits, group_size, symmetric, scale, method })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_its_encoding() {
        for float in Float::ALL.iter().copied() {
            assert_eq!(float.name().parse(), Ok(float));
            assert_eq!(float.name().parse(), Ok(Encoding::Float(float)));
        }
        for text in
            ["int4:g32:symmetric:BF16:search", "int8:channel:asymmetric:F32:minmax", "int3:g7:symmetric:F16:minmax"]
        {
            assert_eq!(text.parse::<Encoding>().unwrap().to_string(), text);
        }
        assert_eq!("int8:g4:symmetric:F32".parse(), "int8:g4:symmetric:F32:minmax".parse::<Encoding>());
        for text in [
            "bf16",
            "int5:g1:symmetric:F16",
            "int4:g0:symmetric:F16",
            "int4:g1:symmetric:F64",
            "int4:g1",
            "int4:g1:symmetric:F16:search:",
        ] {
            let message = text.parse::<Encoding>().unwrap_err().to_string();
            assert!(
                message.starts_with("the encoding must be F16,") && message.ends_with(&format!("not '{text}'")),
                "{message}"
            );
        }
        let row = |text: &str, length| text.parse::<Encoding>().unwrap().row_bytes(length);
        assert_eq!(row("int4:g4:asymmetric:F16", 12), Some(8 + 3 * 3));
        assert_eq!(row("int3:channel:symmetric:F32", 11), Some(8 + 4));
        assert_eq!(row("int4:g5:symmetric:F16", 12), None);
        for block in Block::ALL.iter().copied() {
            let encoding = Encoding::Block(block);
            assert_eq!(block.name().parse(), Ok(encoding));
            assert_eq!(encoding.row_bytes(3 * block.weights()), Some(3 * block.bytes()));
            assert_eq!(encoding.row_bytes(block.weights() + 16), None);
        }
        assert_eq!(Encoding::Float(Float::F64).row_bytes(usize::MAX / 4), None);
    }
}
