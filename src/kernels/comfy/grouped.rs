//! Codes of 4 and 6 bits in groups of 16, which stand for integers of 8 bits: `asym_w4a8_int8`.
//!
//! A code has a level; times the scale of its group and rounded it is an integer up to 127 in magnitude, and that times the
//! scale of the row a weight.

use super::{
    float8::{e4m3, of_e4m3},
    rows::{absmax, clamped, rounded},
};
use crate::kernels::{
    dispatch::kernel,
    lanes::{max, min},
};

/// The weights of a group, as they are encoded.
pub const GROUP: usize = 16;

/// The largest level of 6 bits, and its codes.
const MOST6: f32 = 31.0;
const LEVELS6: usize = 63;

type Group = [f32; GROUP];

/// Adds 16 numbers as torch does: those 8 apart first, then from left to right.
#[inline(always)]
fn sum(x: &Group) -> f32 {
    let mut total = x[0] + x[8];
    for i in 1..8 {
        total += x[i] + x[i + 8];
    }
    total
}

/// A set of levels, and the code of the one that is nearest.
trait Levels {
    /// Returns what a group's codes stand for, nearest to `x`, times no scale.
    fn nearest(&self, x: &Group) -> Group;
    /// Returns the integers that the levels become with a scale, and the code of the integer that is nearest to each target,
    /// with the integer itself.
    fn on_grid(&self, scale: f32, targets: &Group) -> ([u8; GROUP], Group);
    /// Returns the largest level.
    fn most(&self) -> f32;
}

/// The 16 levels of 4 bits, ascending.
struct Four<'a>(&'a [f32; 16]);

/// Returns the nearest of 16 ascending levels and its number. Of two as near it is the lower one.
#[inline(always)]
fn nearest16(levels: &[f32; 16], x: &Group) -> ([u8; GROUP], Group) {
    let (mut below, mut low, mut high) = ([0u32; GROUP], [levels[0]; GROUP], [levels[15]; GROUP]);
    for level in levels {
        for i in 0..GROUP {
            let is_below = *level < x[i];
            below[i] += u32::from(is_below);
            low[i] = if is_below { *level } else { low[i] };
        }
    }
    for level in levels.iter().rev() {
        for i in 0..GROUP {
            high[i] = if *level < x[i] { high[i] } else { *level };
        }
    }
    let (mut codes, mut found) = ([0; GROUP], [0.0; GROUP]);
    for i in 0..GROUP {
        let takes_high = (x[i] - high[i]).abs() < (x[i] - low[i]).abs();
        found[i] = if takes_high { high[i] } else { low[i] };
        codes[i] = (below[i].saturating_sub(1) + u32::from(takes_high)) as u8;
    }
    (codes, found)
}

impl Levels for Four<'_> {
    #[inline(always)]
    fn nearest(&self, x: &Group) -> Group {
        nearest16(self.0, x).1
    }

    #[inline(always)]
    fn on_grid(&self, scale: f32, targets: &Group) -> ([u8; GROUP], Group) {
        let mut grid = [0.0; 16];
        for (integer, level) in grid.iter_mut().zip(self.0) {
            *integer = clamped(level * scale, 127.0);
        }
        nearest16(&grid, targets)
    }

    #[inline(always)]
    fn most(&self) -> f32 {
        1.0
    }
}

/// The 63 levels of 6 bits: the integers up to 31 in magnitude. Their codes are from 1 on.
struct Six;

impl Levels for Six {
    #[inline(always)]
    fn nearest(&self, x: &Group) -> Group {
        let mut found = [0.0; GROUP];
        for i in 0..GROUP {
            found[i] = min(max(rounded(x[i]), -MOST6), MOST6);
        }
        found
    }

    #[inline(always)]
    fn on_grid(&self, scale: f32, targets: &Group) -> ([u8; GROUP], Group) {
        let mut grid = [0.0; LEVELS6];
        for (number, integer) in grid.iter_mut().enumerate() {
            *integer = clamped((number as f32 - MOST6) * scale, 127.0);
        }
        let (mut codes, mut found) = ([0; GROUP], [0.0; GROUP]);
        for i in 0..GROUP {
            let at = grid.partition_point(|integer| *integer < targets[i]);
            let (low, high) = (at.saturating_sub(1), at.min(LEVELS6 - 1));
            let takes_high = (targets[i] - grid[high]).abs() < (targets[i] - grid[low]).abs();
            let at = if takes_high { high } else { low };
            (codes[i], found[i]) = (at as u8 + 1, grid[at]);
        }
        (codes, found)
    }

    #[inline(always)]
    fn most(&self) -> f32 {
        MOST6
    }
}

/// Returns the scale of a group by least squares, two steps from its range, and the largest magnitude that it decodes to.
#[inline(always)]
fn fitted(levels: &impl Levels, x: &Group) -> (f32, f32) {
    const LEAST: f32 = 1e-8;
    let mut scale = max(absmax(x) / levels.most(), LEAST);
    let mut found = levels.nearest(&x.map(|x| x / scale));
    for _ in 0..2 {
        let (mut products, mut squares) = ([0.0; GROUP], [0.0; GROUP]);
        for i in 0..GROUP {
            products[i] = x[i] * found[i];
            squares[i] = found[i] * found[i];
        }
        scale = max(sum(&products) / max(sum(&squares), LEAST), LEAST);
        found = levels.nearest(&x.map(|x| x / scale));
    }
    let mut most = 0.0;
    for level in found {
        most = max((level * scale).abs(), most);
    }
    (scale, most)
}

/// Encodes a group: tries `scales` in their order, and keeps the first of least error. Gives codes and scale.
#[inline(always)]
fn best(levels: &impl Levels, targets: &Group, scales: impl Iterator<Item = u8>) -> ([u8; GROUP], u8) {
    let (mut codes, mut scale, mut least) = ([0; GROUP], 0, f32::INFINITY);
    for code in scales {
        let (found, integers) = levels.on_grid(of_e4m3(code), targets);
        let mut squares = [0.0; GROUP];
        for i in 0..GROUP {
            squares[i] = (integers[i] - targets[i]) * (integers[i] - targets[i]);
        }
        let error = sum(&squares);
        if error < least {
            (codes, scale, least) = (found, code, error);
        }
    }
    (codes, scale)
}

/// Returns the codes of E4M3 that are tried: the one that `fit` is next to, one below, one above, two below, and so on.
#[inline(always)]
fn near(fit: f32, reach: i32) -> impl Iterator<Item = u8> {
    let (middle, least) = (i32::from(e4m3(fit)), i32::from(reach > 0));
    (0..=2 * reach).map(move |step| {
        let away = (step + 1) / 2;
        let code = if step % 2 == 1 { middle - away } else { middle + away };
        code.clamp(least, 0x7e) as u8
    })
}

/// Encodes a row: `reach` codes of E4M3 below and above that of least squares are tried. `fits` has room for a number of each
/// group, `put` takes the number of a group and its codes. Returns the scale of the row.
#[inline(always)]
fn encode(
    levels: &impl Levels,
    row: &[f32],
    reach: i32,
    fits: &mut [f32],
    scales: &mut [u8],
    mut put: impl FnMut(usize, &[u8; GROUP]),
) -> f32 {
    let groups = row.as_chunks::<GROUP>().0;
    let mut most = 0.0;
    for (group, fit) in groups.iter().zip(&mut *fits) {
        let (scale, largest) = fitted(levels, group);
        *fit = scale;
        most = max(largest, most);
    }
    let row_scale = max(most / 127.0, 1e-8);
    for (number, ((group, fit), scale)) in groups.iter().zip(&*fits).zip(scales).enumerate() {
        let targets = group.map(|x| x / row_scale);
        let (codes, found) = best(levels, &targets, near(*fit / row_scale, reach));
        *scale = found;
        put(number, &codes);
    }
    row_scale
}

kernel! {
    /// Encodes a row as codes of 4 bits in groups of 16, the first of two in the low half of a byte, and returns the scale of the
    /// row. `levels` ascend; `fits` has room for a number of each group. With `search` each group gets the scale of least error as it is decoded; without, that of
    /// comfy-kitchen, which is made by least squares and then rounded.
    pub fn encode_grouped4(
        row: &[f32], levels: &[f32; 16], search: bool, fits: &mut [f32], codes: &mut [u8], scales: &mut [u8],
    ) -> f32 {
        let codes = codes.as_chunks_mut::<8>().0;
        encode(&Four(levels), row, if search { 2 } else { 0 }, fits, scales, |group, found| {
            if let Some(bytes) = codes.get_mut(group) {
                *bytes = nibbles(found);
            }
        })
    }
}

kernel! {
    /// Encodes a row as codes of 6 bits in groups of 16: the low four bits as [`encode_grouped4`](fn@encode_grouped4) has them, then
    /// the high two of all codes. Returns the scale of the row. As comfy-kitchen does, the scales beside that of least squares
    /// are tried; with `search` more of them.
    pub fn encode_grouped6(row: &[f32], search: bool, fits: &mut [f32], codes: &mut [u8], scales: &mut [u8]) -> f32 {
        let (low, high) = codes.split_at_mut((row.len() / 2).min(codes.len()));
        let (low, high) = (low.as_chunks_mut::<8>().0, high.as_chunks_mut::<4>().0);
        encode(&Six, row, if search { 3 } else { 1 }, fits, scales, |group, found| {
            if let (Some(low), Some(high)) = (low.get_mut(group), high.get_mut(group)) {
                *low = nibbles(&found.map(|code| code & 15));
                for (byte, four) in high.iter_mut().zip(found.as_chunks::<4>().0) {
                    *byte = four[0] >> 4 | four[1] >> 4 << 2 | four[2] >> 4 << 4 | four[3] >> 4 << 6;
                }
            }
        })
    }
}

#[inline(always)]
fn nibbles(codes: &[u8; GROUP]) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (byte, pair) in bytes.iter_mut().zip(codes.as_chunks::<2>().0) {
        *byte = pair[0] | pair[1] << 4;
    }
    bytes
}

kernel! {
    /// Decodes codes of 4 bits in groups of `group_size` to the integers that they stand for.
    pub fn decode_grouped4(codes: &[u8], scales: &[u8], group_size: usize, levels: &[f32; 16], out: &mut [f32]) {
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(codes) {
            *pair = [levels[usize::from(byte & 15)], levels[usize::from(byte >> 4)]];
        }
        scale_groups(scales, group_size, out);
    }
}

kernel! {
    /// Decodes codes of 6 bits in groups of `group_size` to the integers that they stand for.
    pub fn decode_grouped6(codes: &[u8], scales: &[u8], group_size: usize, out: &mut [f32]) {
        let (low, high) = codes.split_at((out.len() / 2).min(codes.len()));
        for ((four, low), high) in out.as_chunks_mut::<4>().0.iter_mut().zip(low.as_chunks::<2>().0).zip(high) {
            let low = [low[0] & 15, low[0] >> 4, low[1] & 15, low[1] >> 4];
            for i in 0..4 {
                four[i] = f32::from(low[i] | (high >> (2 * i) & 3) << 4) - 32.0;
            }
        }
        scale_groups(scales, group_size, out);
    }
}

/// Multiplies levels by the scales of their groups, and rounds them to the integers that engines take.
#[inline(always)]
fn scale_groups(scales: &[u8], group_size: usize, out: &mut [f32]) {
    for (group, code) in out.chunks_mut(group_size.max(1)).zip(scales) {
        let scale = if code & 0x7f == 0x7f { f32::NAN } else { of_e4m3(*code) };
        for x in group {
            *x = if scale.is_nan() { scale } else { clamped(*x * scale, 127.0) };
        }
    }
}
