//! Floats of 8 and 4 bits: E4M3 and E2M1, rounded to nearest, ties to even.

use crate::kernels::{dispatch::kernel, lanes::min};

/// The largest E4M3.
pub(in crate::kernels) const E4M3_MOST: f32 = 448.0;

/// Returns the code of the nearest E4M3; what is beyond the largest becomes that.
#[inline(always)]
pub(in crate::kernels) fn e4m3(x: f32) -> u8 {
    let sign = (x.to_bits() >> 24) as u8 & 0x80;
    let magnitude = min(x.abs(), E4M3_MOST);
    let bits = magnitude.to_bits();
    let normal = (bits + 0x7_ffff + (bits >> 20 & 1)) >> 20;
    // Adding 2^14 leaves multiples of 2^-9 in the low bits of the mantissa, rounded by the addition.
    let denormal = (magnitude + 16384.0).to_bits() - 16384f32.to_bits();
    let code = if magnitude < 0.015_625 { denormal } else { normal.wrapping_sub(120 << 3) };
    sign | code as u8
}

/// Returns the value of an E4M3; NaN as 480.
#[inline(always)]
pub(in crate::kernels) fn of_e4m3(code: u8) -> f32 {
    let magnitude = u32::from(code & 0x7f) << 20;
    let value = if magnitude < 1 << 23 {
        f32::from_bits(magnitude + (121 << 23)) - 0.015_625
    } else {
        f32::from_bits(magnitude + (120 << 23))
    };
    f32::from_bits(value.to_bits() | u32::from(code & 0x80) << 24)
}

/// Rounds a number from 0 to 6 to the next E2M1.
#[inline(always)]
pub(in crate::kernels) fn near_e2m1(x: f32) -> f32 {
    // The sum's last bit is worth half, one or two.
    let steps = if x < 2.0 {
        6_291_456.0
    } else if x < 4.0 {
        12_582_912.0
    } else {
        25_165_824.0
    };
    (x + steps) - steps
}

/// Returns the code of an E2M1 that is not negative.
#[inline(always)]
pub(in crate::kernels) fn code_of_e2m1(x: f32) -> u8 {
    // From 1 on the code counts up as exponent and first bit of the mantissa do.
    if x < 1.0 { (2.0 * x) as u8 } else { (x.to_bits() >> 22).wrapping_sub(252) as u8 }
}

/// The values of E2M1 by code.
pub(in crate::kernels) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

kernel! {
    /// Encodes a row as E4M3 times `scale`, which is not 0. As comfy-kitchen does, weights are multiplied by the reciprocal.
    ///
    /// ```
    /// let mut codes = [0; 3];
    /// arrow_quant::kernels::comfy::encode_fp8(&[1.0, -448.0, 0.0], 1.0, &mut codes);
    /// assert_eq!(codes, [0x38, 0xfe, 0x00]);
    /// ```
    pub fn encode_fp8(row: &[f32], scale: f32, codes: &mut [u8]) {
        let inverse = 1.0 / scale;
        for (x, code) in row.iter().zip(codes) {
            *code = e4m3(x * inverse);
        }
    }
}
