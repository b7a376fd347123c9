//! Integers with a scale and a bias for each group: `weight = code * scale + bias`.

use crate::kernels::{
    dispatch::kernel,
    lanes::{fold, max, min},
    pack::{pack_codes, unpack_codes},
    params::round_clamped,
};

const LANES: usize = 16;

/// Weights whose codes are staged: whole groups, and whole bytes at every width.
const BLOCK: usize = 128;

/// The least scale that MLX takes.
const LEAST: f32 = 1e-7;

/// Runs `$body` with the constant `$BITS` standing for `$bits`.
macro_rules! for_widths {
    ($bits:expr, $BITS:ident => $body:expr) => {
        for_widths!(@ $bits, $BITS => $body; 2 3 4 5 6)
    };
    (@ $bits:expr, $BITS:ident => $body:expr; $($width:literal)*) => {
        match $bits {
            $($width => {
                const $BITS: usize = $width;
                $body
            })*
            _ => {
                const $BITS: usize = 8;
                $body
            }
        }
    };
}

/// Returns the largest code.
#[inline(always)]
pub(super) fn most(bits: u8) -> f32 {
    ((1u32 << bits.min(8)) - 1) as f32
}

/// Returns the least and the largest weight of a group.
#[inline(always)]
pub(super) fn extremes(group: &[f32]) -> (f32, f32) {
    let (mut low, mut high) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for chunk in group.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            low[i] = min(chunk[i], low[i]);
            high[i] = max(chunk[i], high[i]);
        }
    }
    (fold(low, min), fold(high, max))
}

/// Returns scale and bias by the range of a group. The end that is further from 0 is the bias, and 0 has a code.
#[inline(always)]
pub(super) fn of_range(group: &[f32], most: f32, least: f32) -> (f32, f32) {
    let (low, high) = extremes(group);
    let step = max((high - low) / most, least);
    let (step, edge) = if low.abs() > high.abs() { (step, low) } else { (-step, high) };
    let zero = (edge / step).round_ties_even();
    if zero == 0.0 { (step, 0.0) } else { (edge / zero, edge) }
}

kernel! {
    /// Fills scale and bias of every group by its range, as MLX does. `group_size` is a multiple of 32.
    ///
    /// ```
    /// let mut row = [0.0; 32];
    /// (row[0], row[1]) = (-1.0, 2.0);
    /// let (mut scales, mut biases) = ([0.0], [0.0]);
    /// arrow_quant::kernels::mlx::range(&row, 2, 32, &mut scales, &mut biases);
    /// assert_eq!((scales, biases), ([-1.0], [2.0]));
    /// ```
    pub fn range(row: &[f32], bits: u8, group_size: usize, scales: &mut [f32], biases: &mut [f32]) {
        for ((group, scale), bias) in row.chunks(group_size.max(1)).zip(scales).zip(biases) {
            (*scale, *bias) = of_range(group, most(bits), LEAST);
        }
    }
}

kernel! {
    /// Encodes and packs a row: `code = clamp(round((w - bias) / scale), 0, 2^bits - 1)`, ties to even.
    ///
    /// ```
    /// let mut packed = [0; 8];
    /// arrow_quant::kernels::mlx::encode_codes(&[1.0; 32], 2, 32, &[-1.0], &[2.0], &mut packed);
    /// assert_eq!(packed, [0b01_01_01_01; 8]);
    /// ```
    pub fn encode_codes(row: &[f32], bits: u8, group_size: usize, scales: &[f32], biases: &[f32], packed: &mut [u8]) {
        let most = most(bits);
        let groups = row.chunks(group_size.max(1)).zip(scales).zip(biases);
        for_widths!(bits, BITS => {
            for (((group, scale), bias), packed) in groups.zip(packed.chunks_mut((group_size * BITS / 8).max(1))) {
                for (group, packed) in group.chunks(BLOCK).zip(packed.chunks_mut(BLOCK * BITS / 8)) {
                    let mut codes = [0; BLOCK];
                    for (x, code) in group.iter().zip(&mut codes) {
                        *code = round_clamped((x - bias) / scale, most);
                    }
                    pack_codes::<BITS>(&codes[..group.len()], packed);
                }
            }
        });
    }
}

kernel! {
    /// Unpacks codes, each times the scale of its group.
    ///
    /// ```
    /// let mut row = [0.0; 32];
    /// arrow_quant::kernels::mlx::multiply_codes(&[0b01_01_01_01; 8], 2, 32, &[-1.0], &mut row);
    /// assert_eq!(row, [-1.0; 32]);
    /// ```
    pub fn multiply_codes(packed: &[u8], bits: u8, group_size: usize, scales: &[f32], row: &mut [f32]) {
        let groups = row.chunks_mut(group_size.max(1)).zip(scales);
        for_widths!(bits, BITS => {
            for ((group, scale), packed) in groups.zip(packed.chunks((group_size * BITS / 8).max(1))) {
                for (group, packed) in group.chunks_mut(BLOCK).zip(packed.chunks(BLOCK * BITS / 8)) {
                    let mut codes = [0; BLOCK];
                    unpack_codes::<BITS>(packed, &mut codes[..group.len()]);
                    for (x, code) in group.iter_mut().zip(codes) {
                        *x = f32::from(code) * scale;
                    }
                }
            }
        });
    }
}

kernel! {
    /// Adds to each weight the bias of its group.
    pub fn add_biases(row: &mut [f32], group_size: usize, biases: &[f32]) {
        for (group, bias) in row.chunks_mut(group_size.max(1)).zip(biases) {
            for x in group {
                *x += bias;
            }
        }
    }
}
