//! Stored floats to f32: bf16, f16, the four fp8 formats and f64. Exact, but for f64.
//!
//! Input is bytes, little-endian, of any alignment, as a file has them.

use crate::kernels::dispatch::kernel;

/// Returns sign, exponent and mantissa of a small float, moved to where f32 has them.
///
/// `magnitude` is already shifted so that the exponent ends at bit 23; `bias` is how much f32's exponent bias
/// exceeds the format's. A denormal is read as if it had the least exponent, then the hidden one is subtracted:
/// no f32 denormal appears, which some CPUs take 100 times as long for.
#[inline(always)]
fn rebias(sign: u32, magnitude: u32, bias: u32) -> f32 {
    let normal = magnitude + (bias << 23);
    let least = (bias + 1) << 23;
    let denormal = (f32::from_bits(magnitude + least) - f32::from_bits(least)).to_bits();
    f32::from_bits(sign | if magnitude < 1 << 23 { denormal } else { normal })
}

#[inline(always)]
pub(in crate::kernels) fn half(bits: u16) -> f32 {
    let (sign, magnitude) = (u32::from(bits & 0x8000) << 16, u32::from(bits & 0x7fff) << 13);
    let special = f32::from_bits(sign | magnitude | 0x7f80_0000);
    if magnitude >= 0x7c00 << 13 { special } else { rebias(sign, magnitude, 112) }
}

#[inline(always)]
fn fp8(byte: u8, shift: u32, bias: u32, nan: impl Fn(u8) -> bool) -> f32 {
    let value = rebias(u32::from(byte & 0x80) << 24, u32::from(byte & 0x7f) << shift, bias);
    if nan(byte) { f32::NAN } else { value }
}

kernel! {
    /// Widens bfloat16: the upper half of an f32.
    ///
    /// ```
    /// let mut out = [0.0; 2];
    /// arrow_quant::kernels::widen::widen_bf16(&[0x80, 0x3f, 0x20, 0xc0], &mut out);
    /// assert_eq!(out, [1.0, -2.5]);
    /// ```
    pub fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
        for (x, out) in bytes.as_chunks().0.iter().zip(out) {
            *out = f32::from_bits(u32::from(u16::from_le_bytes(*x)) << 16);
        }
    }
}

kernel! {
    /// Widens IEEE half precision, with its infinities and NaN.
    ///
    /// ```
    /// let mut out = [0.0; 2];
    /// arrow_quant::kernels::widen::widen_f16(&[0x00, 0x3c, 0x01, 0x80], &mut out);
    /// assert_eq!(out, [1.0, -(2f32.powi(-24))]);
    /// ```
    pub fn widen_f16(bytes: &[u8], out: &mut [f32]) {
        for (x, out) in bytes.as_chunks().0.iter().zip(out) {
            *out = half(u16::from_le_bytes(*x));
        }
    }
}

kernel! {
    /// Widens fp8 with 4 exponent bits (`F8_E4M3`, "fn"): no infinity, largest 448, NaN 0x7f and 0xff.
    pub fn widen_f8_e4m3(bytes: &[u8], out: &mut [f32]) {
        for (&x, out) in bytes.iter().zip(out) {
            *out = fp8(x, 20, 120, |x| x & 0x7f == 0x7f);
        }
    }
}

kernel! {
    /// Widens fp8 with 5 exponent bits (`F8_E5M2`): the upper half of an f16, with its infinities and NaN.
    pub fn widen_f8_e5m2(bytes: &[u8], out: &mut [f32]) {
        for (&x, out) in bytes.iter().zip(out) {
            *out = half(u16::from(x) << 8);
        }
    }
}

kernel! {
    /// Widens fp8 with 4 exponent bits and bias 8 (`F8_E4M3FNUZ`): no infinity, no negative zero, NaN 0x80.
    pub fn widen_f8_e4m3fnuz(bytes: &[u8], out: &mut [f32]) {
        for (&x, out) in bytes.iter().zip(out) {
            *out = fp8(x, 20, 119, |x| x == 0x80);
        }
    }
}

kernel! {
    /// Widens fp8 with 5 exponent bits and bias 16 (`F8_E5M2FNUZ`): no infinity, no negative zero, NaN 0x80.
    pub fn widen_f8_e5m2fnuz(bytes: &[u8], out: &mut [f32]) {
        for (&x, out) in bytes.iter().zip(out) {
            *out = fp8(x, 21, 111, |x| x == 0x80);
        }
    }
}

kernel! {
    /// Rounds f64 to the nearest f32, ties to even; an infinity beyond f32's range.
    pub fn narrow_f64(bytes: &[u8], out: &mut [f32]) {
        for (x, out) in bytes.as_chunks().0.iter().zip(out) {
            *out = f64::from_le_bytes(*x) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::dispatch::Target;

    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    #[test]
    fn all_bf16_and_f16_values_are_what_the_half_crate_says() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|x| x.to_le_bytes()).collect();
        for target in Target::available() {
            let mut out = vec![0.0; all.len()];
            widen_bf16::on(target, &bytes, &mut out);
            for (&bits, &got) in all.iter().zip(&out) {
                assert!(same(got, f32::from_bits(u32::from(bits) << 16)), "{bits:#x}");
                assert!(same(got, half::bf16::from_bits(bits).to_f32()), "{bits:#x}");
            }
            widen_f16::on(target, &bytes, &mut out);
            for (&bits, &got) in all.iter().zip(&out) {
                assert!(same(got, half::f16::from_bits(bits).to_f32()), "{bits:#x}: {got}");
            }
        }
    }

    /// Returns the definition of a small float, in f64.
    fn naive(byte: u8, mantissa_bits: i32, bias: i32) -> f64 {
        let (magnitude, sign) = (i32::from(byte & 0x7f), if byte > 0x7f { -1.0 } else { 1.0 });
        let (exponent, mantissa) = (magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1));
        let fraction = f64::from(mantissa) / f64::from(1 << mantissa_bits);
        sign * if exponent == 0 {
            fraction * 2f64.powi(1 - bias)
        } else {
            (1.0 + fraction) * 2f64.powi(exponent - bias)
        }
    }

    #[test]
    fn all_fp8_values_are_as_defined() {
        let bytes: Vec<u8> = (0..=u8::MAX).collect();
        let infinity = |byte: u8| if byte > 0x7f { f32::NEG_INFINITY } else { f32::INFINITY };
        for target in Target::available() {
            let mut out = [0.0; 256];
            widen_f8_e4m3::on(target, &bytes, &mut out);
            for (&byte, &got) in bytes.iter().zip(&out) {
                let want = if byte & 0x7f == 0x7f { f32::NAN } else { naive(byte, 3, 7) as f32 };
                assert!(same(got, want), "e4m3 {byte:#x}: {got}");
            }
            assert_eq!(out[0x7e], 448.0);
            widen_f8_e5m2::on(target, &bytes, &mut out);
            for (&byte, &got) in bytes.iter().zip(&out) {
                let want = match byte & 0x7f {
                    0x7c => infinity(byte),
                    0x7d.. => f32::NAN,
                    _ => naive(byte, 2, 15) as f32,
                };
                assert!(same(got, want), "e5m2 {byte:#x}: {got}");
            }
            for (mantissa_bits, bias) in [(3, 8), (2, 16)] {
                match mantissa_bits {
                    3 => widen_f8_e4m3fnuz::on(target, &bytes, &mut out),
                    _ => widen_f8_e5m2fnuz::on(target, &bytes, &mut out),
                }
                for (&byte, &got) in bytes.iter().zip(&out) {
                    let want = if byte == 0x80 { f32::NAN } else { naive(byte, mantissa_bits, bias) as f32 };
                    assert!(same(got, want), "fnuz {mantissa_bits} {byte:#x}: {got}");
                }
            }
        }
    }

    #[test]
    fn f64_rounds_to_even_and_overflows_to_infinity() {
        let values = [1.0 + 2f64.powi(-24), 1.0 + 3.0 * 2f64.powi(-24), 1e300, -1e-300, 0.1];
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        for target in Target::available() {
            let mut out = [9.0; 5];
            narrow_f64::on(target, &bytes, &mut out);
            assert_eq!(out, [1.0, 1.0 + 2f32.powi(-22), f32::INFINITY, -0.0, 0.1]);
        }
    }

    #[test]
    fn a_trailing_half_element_is_left_alone() {
        let mut out = [7.0; 2];
        widen_bf16(&[0x80, 0x3f, 0x80], &mut out);
        assert_eq!(out, [1.0, 7.0]);
    }
}
