//! Codes of 8 and 4 bits with a scale for each row: `int8_tensorwise` and `convrot_w4a4`.

use crate::kernels::{
    dispatch::kernel,
    lanes::{each, fold, max, min},
};

const LANES: usize = 16;

#[inline(always)]
pub(super) fn absmax(row: &[f32]) -> f32 {
    let mut most = [0f32; LANES];
    each::<_, LANES>(row, |lane, x: f32| most[lane] = max(x.abs(), most[lane]));
    fold(most, max)
}

/// Rounds to the nearest integer, ties to even; for magnitudes below 2^22.
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    (x + 12_582_912.0) - 12_582_912.0
}

/// Rounds to an integer of at most `most` in magnitude.
#[inline(always)]
pub(super) fn clamped(x: f32, most: f32) -> f32 {
    rounded(min(max(x, -most), most))
}

kernel! {
    /// Encodes a row as codes of 8 bits, and returns their scale: the largest magnitude becomes 127. A row of zeros has the
    /// scale 1e-30.
    ///
    /// ```
    /// let mut codes = [0; 3];
    /// let scale = arrow_quant::kernels::comfy::encode_int8(&[1.27, -0.5, 0.0], &mut codes);
    /// assert_eq!((scale, codes), (0.01, [127, 206, 0]));
    /// ```
    pub fn encode_int8(row: &[f32], codes: &mut [u8]) -> f32 {
        let scale = max(absmax(row) / 127.0, 1e-30);
        for (x, code) in row.iter().zip(codes) {
            *code = clamped(x / scale, 127.0) as i8 as u8;
        }
        scale
    }
}

kernel! {
    /// Widens codes of 8 bits to the integers that they are.
    pub fn decode_int8(codes: &[u8], out: &mut [f32]) {
        for (code, out) in codes.iter().zip(out) {
            *out = f32::from(*code as i8);
        }
    }
}

/// Adds up the products and the squares of what a row becomes with a scale.
#[inline(always)]
fn fit(row: &[f32], scale: f32) -> (f32, f32) {
    let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
    let inverse = 1.0 / scale;
    each::<_, LANES>(row, |lane, x: f32| {
        let code = clamped(x * inverse, 7.0);
        products[lane] += x * code;
        squares[lane] += code * code;
    });
    (fold(products, |a, b| a + b), fold(squares, |a, b| a + b))
}

/// Returns the scale of least squared error among those that clip less and less, each moved to what its codes ask for.
#[inline(always)]
fn searched(row: &[f32], range: f32) -> f32 {
    let (mut best, mut most) = (range, -1.0);
    for step in 0..32 {
        let start = range * (1.0 - 0.02 * step as f32);
        let (products, squares) = fit(row, start);
        // What the error falls short of the weights' own square, at the scale that is best for these codes.
        let gain = if squares > 0.0 { products * (products / squares) } else { 0.0 };
        if gain > most {
            (best, most) = (if squares > 0.0 { products / squares } else { range }, gain);
        }
    }
    best
}

kernel! {
    /// Encodes a row as codes of 4 bits, the first of two in the low half of a byte, and returns their scale. Without
    /// `search` the largest magnitude becomes 7. A row of zeros has the scale 1e-10 / 7.
    ///
    /// ```
    /// let mut codes = [0; 2];
    /// let scale = arrow_quant::kernels::comfy::encode_int4(&[7.0, -2.0, 0.5, 1.5], false, &mut codes);
    /// assert_eq!((scale, codes), (1.0, [0xe7, 0x20]));
    /// ```
    pub fn encode_int4(row: &[f32], search: bool, codes: &mut [u8]) -> f32 {
        let most = absmax(row);
        let range = max(most, 1e-10) / 7.0;
        let scale = if search && most > 1e-10 { searched(row, range) } else { range };
        for (pair, code) in row.as_chunks::<2>().0.iter().zip(codes) {
            let [low, high] = pair.map(|x| clamped(x / scale, 7.0) as i8 as u8 & 15);
            *code = low | high << 4;
        }
        scale
    }
}

kernel! {
    /// Widens codes of 4 bits to the integers that they are, -8 to 7.
    pub fn decode_int4(codes: &[u8], out: &mut [f32]) {
        for (code, out) in codes.iter().zip(out.as_chunks_mut::<2>().0) {
            *out = [f32::from((code << 4) as i8 >> 4), f32::from(*code as i8 >> 4)];
        }
    }
}

kernel! {
    /// Multiplies a row by its scale, in place.
    pub fn multiply(row: &mut [f32], scale: f32) {
        for x in row {
            *x *= scale;
        }
    }
}
