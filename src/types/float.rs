//! The floats that rows are stored as.

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

use super::OptionsError;

/// The floats that rows are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(parse_err_ty = OptionsError, parse_err_fn = unknown_float)]
pub enum Float {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
}

impl Float {
    /// Every float.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the name, which is that of safetensors.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Returns the bytes of one number.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

fn unknown_float(text: &str) -> OptionsError {
    OptionsError::new(format!("the dtype must be F16, BF16, F32 or F64, not '{text}'"))
}
