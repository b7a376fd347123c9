//! The element types of safetensors: name, width, and widening to f32.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use crate::types::Float;

/// The type of a tensor's elements, in the words of safetensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = String, parse_err_fn = unknown)]
#[allow(missing_docs, non_camel_case_types, reason = "the names are the documentation: those of the format")]
pub enum Dtype {
    BOOL,
    F4,
    F6_E2M3,
    F6_E3M2,
    U8,
    I8,
    F8_E5M2,
    F8_E4M3,
    F8_E8M0,
    F8_E4M3FNUZ,
    F8_E5M2FNUZ,
    I16,
    U16,
    F16,
    BF16,
    I32,
    U32,
    F32,
    C64,
    F64,
    I64,
    U64,
}

impl Dtype {
    /// Every element type.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the name as files write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the bits of one element: 4, 6, 8, 16, 32 or 64.
    #[must_use]
    pub const fn bits(self) -> usize {
        match self {
            Self::F4 => 4,
            Self::F6_E2M3 | Self::F6_E3M2 => 6,
            Self::BOOL
            | Self::U8
            | Self::I8
            | Self::F8_E5M2
            | Self::F8_E4M3
            | Self::F8_E8M0
            | Self::F8_E4M3FNUZ
            | Self::F8_E5M2FNUZ => 8,
            Self::I16 | Self::U16 | Self::F16 | Self::BF16 => 16,
            Self::I32 | Self::U32 | Self::F32 => 32,
            Self::C64 | Self::F64 | Self::I64 | Self::U64 => 64,
        }
    }

    /// Returns true if rows of it are weights: it widens to f32. Packed floats (F4, F6), bare exponents (`F8_E8M0`) and
    /// complex numbers do not; they are copied unchanged.
    #[must_use]
    pub const fn is_float(self) -> bool {
        self.is_fp8() || matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Returns true if it is an 8-bit float, which models store with a scale beside it.
    #[must_use]
    pub const fn is_fp8(self) -> bool {
        matches!(self, Self::F8_E5M2 | Self::F8_E4M3 | Self::F8_E4M3FNUZ | Self::F8_E5M2FNUZ)
    }
}

fn unknown(text: &str) -> String {
    let known = Dtype::ALL.iter().map(|dtype| dtype.name()).collect::<Vec<_>>().join(", ");
    format!("unknown dtype '{text}'; known are {known}")
}

/// Returns the float type that values of a dtype are stored as by default: their own; bfloat16 for those of 8 bits, as it
/// has their range times that of their scale.
pub fn float_of(dtype: Dtype) -> Option<Float> {
    match dtype {
        Dtype::F16 => Some(Float::F16),
        Dtype::F32 => Some(Float::F32),
        Dtype::F64 => Some(Float::F64),
        Dtype::BF16 => Some(Float::BF16),
        other => other.is_fp8().then_some(Float::BF16),
    }
}

/// Returns the dtype of a float.
pub const fn dtype_of(float: Float) -> Dtype {
    match float {
        Float::F16 => Dtype::F16,
        Float::BF16 => Dtype::BF16,
        Float::F32 => Dtype::F32,
        Float::F64 => Dtype::F64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_its_dtype() {
        for dtype in Dtype::ALL.iter().copied() {
            assert_eq!(dtype.name().parse(), Ok(dtype));
        }
        assert!("f32".parse::<Dtype>().unwrap_err().starts_with("unknown dtype 'f32'; known are BOOL, F4,"));
    }

    #[test]
    fn widths_are_those_of_the_reference_implementation() {
        for dtype in Dtype::ALL.iter().copied() {
            let reference: safetensors::Dtype = serde_json::from_str(&format!("\"{dtype}\"")).unwrap();
            assert_eq!(dtype.bits(), reference.bitsize(), "{dtype}");
        }
    }
}
