//! The elements of floats as stored to f32.

/// bfloat16: the upper half of an f32.
pub fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

/// IEEE half precision.
pub fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = half::f16::from_le_bytes(*bytes).to_f32();
    }
}

/// Double precision, rounded to even.
pub fn narrow_f64(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f64::from_le_bytes(*bytes) as f32;
    }
}

/// An 8-bit float of so many mantissa bits and such a bias; `special` gives what is no number.
pub fn widen_fp8(bytes: &[u8], out: &mut [f32], mantissa: i32, bias: i32, special: fn(u8) -> Option<f32>) {
    let value = |byte: u8| {
        let (sign, magnitude) = (if byte & 0x80 == 0 { 1.0 } else { -1.0 }, i32::from(byte & 0x7f));
        let (exponent, fraction) = (magnitude >> mantissa, (magnitude & ((1 << mantissa) - 1)) as f32);
        let scale = 2f32.powi(exponent.max(1) - bias - mantissa);
        let hidden = if exponent == 0 { 0.0 } else { 2f32.powi(mantissa) };
        special(byte).unwrap_or(sign * scale * (hidden + fraction))
    };
    for (out, byte) in out.iter_mut().zip(bytes) {
        *out = value(*byte);
    }
}
