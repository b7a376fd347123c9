//! The layouts of `ComfyUI`'s marked safetensors: what a row is stored as, and its name.

use std::{fmt, str::FromStr};

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::{Method, OptionsError, QuantizeOptions};

/// The layouts in which `ComfyUI` keeps the weights of a linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = OptionsError, parse_err_fn = unknown)]
pub enum ComfyLayout {
    /// Codes of 8 bits and a scale for each row: `int8_tensorwise`.
    Int8,
    /// Codes of 4 bits in groups, which stand for integers of 8 bits: `asym_w4a8_int8`.
    W4a8,
    /// The same with codes of 6 bits.
    W6a8,
    /// Codes of 4 bits and a scale for each row: `convrot_w4a4`.
    W4a4,
    /// E4M3 and a scale for the whole tensor: `float8_e4m3fn`.
    Fp8,
    /// E2M1 in blocks of 16 with scales of E4M3, and a scale for the whole tensor: `nvfp4`.
    Nvfp4,
    /// E4M3 in blocks of 32 with powers of two as scales: `mxfp8`.
    Mxfp8,
}

impl ComfyLayout {
    /// Every layout.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the bits of a code.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Int8 | Self::Fp8 | Self::Mxfp8 => 8,
            Self::W6a8 => 6,
            Self::W4a8 | Self::W4a4 | Self::Nvfp4 => 4,
        }
    }

    /// Returns true if all rows of a tensor share a scale.
    #[must_use]
    pub const fn has_tensor_scale(self) -> bool {
        matches!(self, Self::Fp8 | Self::Nvfp4)
    }

    /// Returns true if rows may be rotated.
    #[must_use]
    pub const fn rotates(self) -> bool {
        matches!(self, Self::Int8 | Self::W4a8 | Self::W6a8 | Self::W4a4)
    }

    /// Returns true if scales are searched; the others have one rule.
    #[must_use]
    pub const fn searches(self) -> bool {
        matches!(self, Self::W4a8 | Self::W6a8 | Self::W4a4 | Self::Nvfp4)
    }

    /// Returns the type as the weights table names it.
    #[must_use]
    pub const fn dtype(self) -> &'static str {
        match self {
            Self::Int8 => "COMFY_INT8",
            Self::W4a8 => "COMFY_W4A8",
            Self::W6a8 => "COMFY_W6A8",
            Self::W4a4 => "COMFY_W4A4",
            Self::Fp8 => "COMFY_FP8",
            Self::Nvfp4 => "COMFY_NVFP4",
            Self::Mxfp8 => "COMFY_MXFP8",
        }
    }
}

fn unknown(text: &str) -> OptionsError {
    let names = ComfyLayout::ALL.iter().map(Into::<&str>::into).collect::<Vec<_>>().join(", ");
    OptionsError::new(format!("the layout must be one of {names}, not '{text}'"))
}

/// The bits of an f32, which compare and hash as bits do.
pub type FloatBits = u32;

/// A row as `ComfyUI` stores it: what the tensors of a layer hold of it, one after the other.
///
/// `Int8` and `W4a4`: the codes, and an f32, the scale. `W4a8` and `W6a8`: the codes, an E4M3 for each group, and an f32, the
/// scale of the row. `Fp8`: the codes. `Nvfp4`: the codes, and an E4M3 for each block. `Mxfp8`: the codes, and an exponent for each
/// block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comfy {
    /// The layout.
    pub layout: ComfyLayout,
    /// The inputs that one rotation takes, a power of 4; 1: rows are not rotated.
    pub rotation: u32,
    /// The weights of a group, of `W4a8` and `W6a8`.
    pub group_size: u32,
    /// The scale of the whole tensor, of `Fp8` and `Nvfp4`.
    pub scale: FloatBits,
    /// The levels that the codes of `W4a8` stand for. `None` means a code less 8.
    pub levels: Option<[FloatBits; 16]>,
    /// The method that chooses scales.
    pub method: Method,
}

impl Comfy {
    /// The levels of `W4a8` that engines have fast code for.
    pub const LEVELS: [f32; 16] = [
        -0.980_602, -0.794_529, -0.638_165, -0.500_986, -0.377_321, -0.263_187, -0.155_210, -0.050_720, 0.052_541,
        0.156_985, 0.265_284, 0.379_533, 0.502_636, 0.638_953, 0.794_876, 0.980_671,
    ];

    /// The weights of a group as they are written.
    pub const GROUP_SIZE: u32 = 16;

    /// Returns the weights that share a scale; [`QuantizeOptions::PER_ROW`] means the whole row.
    #[must_use]
    pub const fn scale_group(&self) -> u32 {
        match self.layout {
            ComfyLayout::W4a8 | ComfyLayout::W6a8 => self.group_size,
            ComfyLayout::Nvfp4 => 16,
            ComfyLayout::Mxfp8 => 32,
            ComfyLayout::Int8 | ComfyLayout::W4a4 | ComfyLayout::Fp8 => QuantizeOptions::PER_ROW,
        }
    }

    /// Returns a layout as it is written, without a rotation and with 1 as the scale of the tensor.
    #[must_use]
    pub fn new(layout: ComfyLayout) -> Self {
        Self {
            layout,
            rotation: 1,
            group_size: Self::GROUP_SIZE,
            scale: 1f32.to_bits(),
            levels: Some(Self::LEVELS.map(f32::to_bits)),
            method: if layout.searches() { Method::Search } else { Method::Minmax },
        }
    }

    /// Returns the levels that the codes of `W4a8` stand for.
    #[must_use]
    pub fn level_values(&self) -> [f32; 16] {
        match self.levels {
            Some(levels) => levels.map(f32::from_bits),
            None => std::array::from_fn(|code| code as f32 - 8.0),
        }
    }

    /// Returns the bytes of a row in each tensor of a layer, in their order; none where rows of `length` weights cannot be
    /// stored so.
    #[must_use]
    pub fn shares(&self, length: usize) -> Option<Vec<usize>> {
        let (rotation, group) = (self.rotation.max(1) as usize, self.group_size.max(1) as usize);
        if !length.is_multiple_of(rotation) {
            return None;
        }
        let fits = |unit: usize| length.is_multiple_of(unit);
        match self.layout {
            ComfyLayout::Int8 => length.checked_add(4).map(|_| vec![length, 4]),
            ComfyLayout::Fp8 => Some(vec![length]),
            ComfyLayout::W4a4 => fits(2).then(|| vec![length / 2, 4]),
            ComfyLayout::W4a8 => (fits(16) && fits(group)).then(|| vec![length / 2, length / group, 4]),
            ComfyLayout::W6a8 => (fits(32) && fits(group)).then(|| vec![length / 4 * 3, length / group, 4]),
            ComfyLayout::Nvfp4 => fits(16).then(|| vec![length / 2, length / 16]),
            ComfyLayout::Mxfp8 => fits(32).then(|| vec![length, length / 32]),
        }
    }
}

impl fmt::Display for Comfy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "comfy:{}", self.layout)?;
        if self.rotation > 1 {
            write!(f, ":r{}", self.rotation)?;
        }
        if matches!(self.layout, ComfyLayout::W4a8 | ComfyLayout::W6a8) && self.group_size != Self::GROUP_SIZE {
            write!(f, ":g{}", self.group_size)?;
        }
        if self.layout.has_tensor_scale() {
            write!(f, ":s{:e}", f32::from_bits(self.scale))?;
        }
        if self.layout == ComfyLayout::W4a8 && self.levels != Self::new(self.layout).levels {
            f.write_str(":l")?;
            self.level_values().into_iter().try_for_each(|level| write!(f, "{:08x}", level.to_bits()))?;
        }
        if self.layout.searches() { write!(f, ":{}", self.method) } else { Ok(()) }
    }
}

impl FromStr for Comfy {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut words = text.split(':');
        let layout = words.next().filter(|word| *word == "comfy").and_then(|_| words.next()?.parse().ok()).ok_or(())?;
        let mut comfy = Self::new(layout);
        let grouped = matches!(layout, ComfyLayout::W4a8 | ComfyLayout::W6a8);
        for word in words {
            let number = |prefix: char| word.strip_prefix(prefix).and_then(|text| text.parse::<u32>().ok());
            if let Some(method) = word.parse().ok().filter(|_| layout.searches()) {
                comfy.method = method;
            } else if let Some(size) = number('r').filter(|size| layout.rotates() && is_rotation(*size)) {
                comfy.rotation = size;
            } else if let Some(size) = number('g').filter(|size| grouped && *size > 0) {
                comfy.group_size = size;
            } else if let Some(levels) = word.strip_prefix('l').and_then(levels).filter(|_| layout == ComfyLayout::W4a8)
            {
                comfy.levels = Some(levels);
            } else {
                let scale = word.strip_prefix('s').and_then(|text| text.parse::<f32>().ok());
                let scale = scale.filter(|scale| layout.has_tensor_scale() && scale.is_finite() && *scale >= 0.0);
                comfy.scale = scale.ok_or(())?.to_bits();
            }
        }
        Ok(comfy)
    }
}

/// Returns true if rotations of a size are known: 4, 16, 64, 256 and so on.
#[must_use]
pub const fn is_rotation(size: u32) -> bool {
    size > 1 && size <= 1 << 12 && size.is_power_of_two() && size.trailing_zeros().is_multiple_of(2)
}

fn levels(text: &str) -> Option<[FloatBits; 16]> {
    let mut levels = [0; 16];
    if text.len() != 128 || !text.is_ascii() {
        return None;
    }
    for (number, level) in levels.iter_mut().enumerate() {
        *level = u32::from_str_radix(&text[8 * number..8 * number + 8], 16).ok()?;
    }
    levels.iter().all(|level| f32::from_bits(*level).is_finite()).then_some(levels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Encoding;

    #[test]
    fn a_name_reads_back_as_its_layout() {
        let uniform = Comfy { levels: None, ..Comfy::new(ComfyLayout::W4a8) }.to_string();
        for text in [
            "comfy:int8",
            "comfy:int8:r256",
            "comfy:w4a8:r64:search",
            "comfy:w4a8:r256:g32:minmax",
            "comfy:w6a8:r256:minmax",
            "comfy:w4a4:r16:search",
            "comfy:fp8:s1.7438e-3",
            "comfy:nvfp4:s1e-45:minmax",
            "comfy:mxfp8",
            &uniform,
        ] {
            assert_eq!(text.parse::<Encoding>().unwrap().to_string(), text);
        }
        for text in [
            "comfy",
            "comfy:int4",
            "comfy:int8:r8",
            "comfy:int8:search",
            "comfy:mxfp8:s1",
            "comfy:fp8:sNaN",
            "comfy:w4a8:g0",
            "comfy:w6a8:l00",
        ] {
            assert!(text.parse::<Encoding>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_shares_of_a_row_are_what_the_tensors_of_a_layer_hold() {
        let shares = |text: &str, length| text.parse::<Comfy>().unwrap().shares(length);
        assert_eq!(shares("comfy:int8:r16", 32), Some(vec![32, 4]));
        assert_eq!(shares("comfy:int8:r16", 24), None);
        assert_eq!(shares("comfy:w4a8:r256", 512), Some(vec![256, 32, 4]));
        assert_eq!(shares("comfy:w6a8:r256", 512), Some(vec![384, 32, 4]));
        assert_eq!(shares("comfy:w6a8", 48), None);
        assert_eq!(shares("comfy:w4a4", 64), Some(vec![32, 4]));
        assert_eq!(shares("comfy:nvfp4", 64), Some(vec![32, 4]));
        assert_eq!(shares("comfy:mxfp8", 64), Some(vec![64, 2]));
        assert_eq!(shares("comfy:fp8", 7), Some(vec![7]));
    }
}
