//! The options that quantize a row: bits, group size, method, symmetry.

use std::{fmt, str::FromStr};

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// An option outside what is accepted. The message says what is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

impl OptionsError {
    pub(crate) fn new(message: String) -> Self {
        Self(message)
    }
}

/// Bits per code: 2, 3, 4 or 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "u8", try_from = "i64")]
#[repr(u8)]
pub enum Bits {
    /// Codes 0 to 3.
    Two = 2,
    /// Codes 0 to 7.
    Three = 3,
    /// Codes 0 to 15.
    Four = 4,
    /// Codes 0 to 255.
    Eight = 8,
}

impl Bits {
    /// Every width, smallest first.
    pub const ALL: [Self; 4] = [Self::Two, Self::Three, Self::Four, Self::Eight];

    /// Returns the width as a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self as u8
    }

    /// Returns the largest code, `2^bits - 1`.
    #[must_use]
    pub const fn max_code(self) -> u8 {
        ((1u16 << self.get()) - 1) as u8
    }

    /// Returns the bytes that `length` packed codes take: `ceil(length * bits / 8)`.
    #[must_use]
    pub const fn packed_len(self, length: usize) -> usize {
        // Split so that no length overflows.
        length / 8 * self.get() as usize + (length % 8 * self.get() as usize).div_ceil(8)
    }
}

impl From<Bits> for u8 {
    fn from(bits: Bits) -> Self {
        bits.get()
    }
}

impl TryFrom<i64> for Bits {
    type Error = OptionsError;

    fn try_from(value: i64) -> Result<Self, OptionsError> {
        match value {
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            4 => Ok(Self::Four),
            8 => Ok(Self::Eight),
            _ => Err(OptionsError(format!("bits must be 2, 3, 4 or 8, not {value}"))),
        }
    }
}

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl FromStr for Bits {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        let value: i64 = text.parse().map_err(|_| OptionsError(format!("bits must be 2, 3, 4 or 8, not '{text}'")))?;
        Self::try_from(value)
    }
}

/// The method that chooses scale and zero point of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase", parse_err_ty = OptionsError, parse_err_fn = unknown_method)]
pub enum Method {
    /// The range of the group, zero included.
    Minmax,
    /// The scale and zero point of least squared error.
    Search,
}

impl Method {
    /// Every method.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// Returns the method taken where none is named: [`Method::Search`] up to 4 bits, where clipping pays.
    #[must_use]
    pub const fn default_for(bits: Bits) -> Self {
        if bits.get() <= 4 { Self::Search } else { Self::Minmax }
    }

    /// Returns the name as SQL and the command line write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

fn unknown_method(text: &str) -> OptionsError {
    OptionsError(format!("method must be 'search' or 'minmax', not '{text}'"))
}

/// The number of weights that share a scale and a zero point: 1 and more, or `channel`, which is the whole row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(into = "super::number_or_text::NumberOrText", try_from = "super::number_or_text::NumberOrText")]
pub struct GroupSize(u32);

impl GroupSize {
    /// The whole row, however long.
    pub const CHANNEL: Self = Self(u32::MAX);

    /// Makes a constant size of at least 1.
    #[must_use]
    pub const fn of<const SIZE: u32>() -> Self {
        const { assert!(SIZE > 0, "a group has at least one weight") };
        Self(SIZE)
    }

    /// Returns the number; that of [`Self::CHANNEL`] is above every row's length.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for GroupSize {
    fn default() -> Self {
        Self(QuantizeOptions::DEFAULT_GROUP_SIZE)
    }
}

impl fmt::Display for GroupSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CHANNEL { f.pad("channel") } else { self.0.fmt(f) }
    }
}

impl FromStr for GroupSize {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match (text, text.parse::<u32>()) {
            ("channel", _) => Ok(Self::CHANNEL),
            (_, Ok(size)) if size > 0 => Ok(Self(size)),
            _ => Err(OptionsError(format!("group_size must be 1 to {} or 'channel', not '{text}'", u32::MAX))),
        }
    }
}

/// The options that quantize a row.
///
/// ```
/// use arrow_quant::types::{Bits, Method, QuantizeOptions};
///
/// let options = QuantizeOptions::new(Bits::Two);
/// assert_eq!((options.group_size(), options.method, options.symmetric), (32, Method::Search, false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct QuantizeOptions {
    /// Bits per code.
    pub bits: Bits,
    group_size: u32,
    /// The method that chooses scale and zero point.
    pub method: Method,
    /// Without zero points: the code `2^(bits-1)` decodes to zero.
    pub symmetric: bool,
}

impl QuantizeOptions {
    /// Weights per group where none is named.
    pub const DEFAULT_GROUP_SIZE: u32 = 32;

    /// The group size that stands for the whole row, however long.
    pub const PER_ROW: u32 = u32::MAX;

    /// Returns the defaults for a width: groups of 32, the default method, with zero points.
    #[must_use]
    pub const fn new(bits: Bits) -> Self {
        Self { bits, group_size: Self::DEFAULT_GROUP_SIZE, method: Method::default_for(bits), symmetric: false }
    }

    /// Returns the weights that share a scale and a zero point; never 0.
    #[must_use]
    pub const fn group_size(&self) -> u32 {
        self.group_size
    }

    /// Returns true if a row is one group, however long.
    #[must_use]
    pub const fn is_per_row(&self) -> bool {
        self.group_size == Self::PER_ROW
    }

    /// Returns the same options with another group size. A group never crosses a row, so a value of at least
    /// the row's length gives one group a row.
    ///
    /// # Errors
    /// Returns an error unless `1 <= group_size <= u32::MAX`.
    pub fn with_group_size(mut self, group_size: i64) -> Result<Self, OptionsError> {
        self.group_size = u32::try_from(group_size)
            .ok()
            .filter(|size| *size > 0)
            .ok_or_else(|| OptionsError(format!("group_size must be 1 to {}, not {group_size}", u32::MAX)))?;
        Ok(self)
    }

    /// Returns the same options with another group size.
    #[must_use]
    pub const fn with_groups(mut self, size: GroupSize) -> Self {
        self.group_size = size.get();
        self
    }

    /// Returns the same options with another width; the method stays.
    #[must_use]
    pub const fn with_bits(mut self, bits: Bits) -> Self {
        self.bits = bits;
        self
    }

    /// Returns the same options with another method.
    #[must_use]
    pub const fn with_method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Returns the same options with or without zero points.
    #[must_use]
    pub const fn with_symmetric(mut self, symmetric: bool) -> Self {
        self.symmetric = symmetric;
        self
    }

    /// Returns the bytes a row of `length` weights takes: codes, scales, zero points and the row's scale.
    #[must_use]
    pub const fn row_bytes(&self, length: usize) -> usize {
        let groups = length.div_ceil(self.group_size as usize);
        self.bits.packed_len(length) + groups * (if self.symmetric { 1 } else { 2 }) + size_of::<f32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_length_rounds_up_and_does_not_overflow() {
        assert_eq!(Bits::Three.packed_len(8), 3);
        assert_eq!(Bits::Three.packed_len(9), 4);
        assert_eq!(Bits::Two.packed_len(0), 0);
        assert_eq!(Bits::Eight.packed_len(usize::MAX / 8), usize::MAX / 8);
    }

    #[test]
    fn options_say_what_is_accepted() {
        assert_eq!(Bits::try_from(5).unwrap_err().to_string(), "bits must be 2, 3, 4 or 8, not 5");
        assert_eq!("x".parse::<Bits>().unwrap_err().to_string(), "bits must be 2, 3, 4 or 8, not 'x'");
        assert_eq!("hqq".parse::<Method>().unwrap_err().to_string(), "method must be 'search' or 'minmax', not 'hqq'");
        for size in [0, -1, i64::from(u32::MAX) + 1] {
            let error = QuantizeOptions::new(Bits::Four).with_group_size(size).unwrap_err();
            assert!(error.to_string().ends_with(&format!("not {size}")), "{error}");
        }
    }

    #[test]
    fn a_row_of_4096_at_two_bits_costs_two_and_a_half_bits_a_weight_and_its_scale() {
        assert_eq!(QuantizeOptions::new(Bits::Two).row_bytes(4096), 4096 * 5 / 16 + 4);
    }
}
