//! The scale code: an unsigned float of 4 exponent and 4 mantissa bits, `m(c) = (1 + (c mod 16)/16) * 2^(floor(c/16) - 15)`.
//!
//! Its bits are the top of an f32's: decoding is a shift and an add, and rounding is integer rounding.

/// `m(0)` as f32 bits, `2^-15`; a step of the code is `2^19` of these.
const LEAST: i32 = 112 << 23;

/// Returns `m(c)`, from `2^-15` for 0 over 1 for 240 to 1.9375 for 255.
///
/// ```
/// use arrow_quant::kernels::scale::scale_factor;
///
/// assert_eq!([0, 239, 240, 255].map(scale_factor), [2f32.powi(-15), 0.96875, 1.0, 1.9375]);
/// ```
#[inline(always)]
pub fn scale_factor(code: u8) -> f32 {
    f32::from_bits((u32::from(code) << 19) + LEAST as u32)
}

#[inline(always)]
fn code(ratio: f32, round: impl Fn(i32) -> i32) -> u8 {
    // A negative ratio or NaN has no place here; clamping gives them a code all the same.
    round(ratio.to_bits() as i32 - LEAST).clamp(0, 255) as u8
}

/// Returns the code of the least `m(c) >= ratio`; 255 where there is none.
#[inline(always)]
pub fn scale_code_up(ratio: f32) -> u8 {
    code(ratio, |x| (x + ((1 << 19) - 1)) >> 19)
}

/// Returns the code of the largest `m(c) <= ratio`; 0 where there is none.
#[inline(always)]
pub fn scale_code_down(ratio: f32) -> u8 {
    code(ratio, |x| x >> 19)
}

/// Returns the code whose `m(c)` is nearest to `ratio`; the even one of two.
#[inline(always)]
pub fn scale_code_nearest(ratio: f32) -> u8 {
    code(ratio, |x| (x + ((1 << 18) - 1) + (x >> 19 & 1)) >> 19)
}

/// Returns the factor `steps` codes from that of `factor`, within the codes there are.
#[inline(always)]
pub(in crate::kernels) fn scale_factor_moved(factor: f32, steps: i32) -> f32 {
    let bits = (factor.to_bits() as i32 + (steps << 19)).clamp(LEAST, LEAST + (255 << 19));
    f32::from_bits(bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_decodes_as_defined_and_encodes_to_itself() {
        for c in 0..=255u8 {
            let m = (1.0 + f64::from(c % 16) / 16.0) * 2f64.powi(i32::from(c / 16) - 15);
            assert_eq!(f64::from(scale_factor(c)), m);
            for encode in [scale_code_up, scale_code_down, scale_code_nearest] {
                assert_eq!(encode(scale_factor(c)), c);
            }
            assert_eq!(scale_factor_moved(scale_factor(c), 3), scale_factor(c.saturating_add(3)));
            assert_eq!(scale_factor_moved(scale_factor(c), -3), scale_factor(c.saturating_sub(3)));
        }
    }

    #[test]
    fn rounding_is_as_named() {
        for c in 0..255u8 {
            let (low, high) = (scale_factor(c), scale_factor(c + 1));
            let middle = f32::midpoint(low, high);
            for ratio in [low.next_up(), middle.next_down(), middle, middle.next_up(), high.next_down()] {
                assert_eq!(scale_code_up(ratio), c + 1);
                assert_eq!(scale_code_down(ratio), c);
                let nearest = if ratio == middle { c + c % 2 } else { c + u8::from(ratio > middle) };
                assert_eq!(scale_code_nearest(ratio), nearest);
            }
        }
    }

    #[test]
    fn what_is_out_of_range_takes_the_end() {
        for encode in [scale_code_up, scale_code_down, scale_code_nearest] {
            for (ratio, c) in [(0.0, 0), (1e-45, 0), (1e-9, 0), (1.97, 255), (1e30, 255), (f32::INFINITY, 255)] {
                assert_eq!(encode(ratio), c, "{ratio}");
            }
        }
    }
}
