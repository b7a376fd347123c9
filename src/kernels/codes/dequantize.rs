//! Packed codes to weights: `weight = row_scale * m(c) * (code - z)`.

use super::{
    pack::unpack_codes,
    params::{AT_A_TIME, GROUPS_AT_A_TIME, Params, for_bits},
};
use crate::kernels::dispatch::kernel;

/// Codes unpacked before they are decoded, where groups are not regular: whole bytes at every width.
const BLOCK: usize = 256;

#[inline(always)]
fn decode(codes: &[u8], scale: f32, zero_point: f32, weights: &mut [f32]) {
    let (chunks, rest) = codes.as_chunks::<32>();
    let (weight_chunks, weight_rest) = weights.as_chunks_mut::<32>();
    for (codes, weights) in chunks.iter().zip(weight_chunks) {
        for (code, w) in codes.iter().zip(weights) {
            *w = scale * (f32::from(*code) - zero_point);
        }
    }
    for (code, w) in rest.iter().zip(weight_rest) {
        *w = scale * (f32::from(*code) - zero_point);
    }
}

/// Decodes whole groups from `first` on, [`AT_A_TIME`] weights at most.
#[inline(always)]
fn decode_groups<const BITS: usize>(packed: &[u8], params: &Params, first: usize, weights: &mut [f32]) {
    let size = params.group_size;
    let groups = AT_A_TIME / size;
    let mut codes = [0; AT_A_TIME];
    let (mut scales, mut zeros) = ([0.0; GROUPS_AT_A_TIME], [0.0; GROUPS_AT_A_TIME]);
    unpack_codes::<BITS>(packed, &mut codes[..weights.len()]);
    params.groups::<BITS>(first, &mut scales[..groups], &mut zeros[..groups]);
    let of_groups = scales.iter().zip(&zeros);
    for ((weights, codes), (scale, zero)) in weights.chunks_mut(size).zip(codes.chunks(size)).zip(of_groups) {
        decode(&codes[..weights.len()], *scale, *zero, weights);
    }
}

/// Decodes a row block by block, whatever the groups.
#[derive(Default)]
struct Blocks {
    group: usize,
    left: usize,
    scale: f32,
    zero_point: f32,
}

impl Blocks {
    #[inline(always)]
    fn decode<const BITS: usize>(&mut self, packed: &[u8], params: &Params, weights: &mut [f32]) {
        let mut codes = [0; BLOCK];
        unpack_codes::<BITS>(packed, &mut codes[..weights.len()]);
        let mut start = 0;
        while start < weights.len() {
            if self.left == 0 {
                (self.scale, self.zero_point) = params.group::<BITS>(self.group);
                (self.group, self.left) = (self.group + 1, params.group_size.max(1));
            }
            let end = weights.len().min(start.saturating_add(self.left));
            decode(&codes[start..end], self.scale, self.zero_point, &mut weights[start..end]);
            self.left -= end - start;
            start = end;
        }
    }
}

#[inline(always)]
fn dequantize_row<const BITS: usize>(packed: &[u8], params: &Params, weights: &mut [f32]) {
    if params.is_regular(weights.len()) {
        let groups = AT_A_TIME / params.group_size;
        let step = groups * params.group_size;
        for (n, (weights, packed)) in weights.chunks_mut(step).zip(packed.chunks(step * BITS / 8)).enumerate() {
            decode_groups::<BITS>(packed, params, n * groups, weights);
        }
        return;
    }
    let mut blocks = Blocks::default();
    for (weights, packed) in weights.chunks_mut(BLOCK).zip(packed.chunks(BLOCK * BITS / 8)) {
        blocks.decode::<BITS>(packed, params, weights);
    }
}

/// Takes pieces of two rows. A closure would do, but one that is called at several places is not inlined, and so compiled
/// for the baseline.
pub(in crate::kernels) trait Pieces {
    /// Adds a piece. It must be `#[inline(always)]`. All pieces but the last are multiples of 32 long.
    fn add(&mut self, a: &[f32], b: &[f32]);
}

/// Gives the weights of `row` and what their codes decode to, piece by piece: what is decoded stays in the nearest cache.
#[inline(always)]
pub(in crate::kernels) fn beside_decoded<const BITS: usize>(
    row: &[f32],
    packed: &[u8],
    params: &Params,
    pieces: &mut impl Pieces,
) {
    let mut decoded = [0.0; AT_A_TIME];
    if params.is_regular(row.len()) {
        let groups = AT_A_TIME / params.group_size;
        let step = groups * params.group_size;
        for (n, (row, packed)) in row.chunks(step).zip(packed.chunks(step * BITS / 8)).enumerate() {
            decode_groups::<BITS>(packed, params, n * groups, &mut decoded[..row.len()]);
            pieces.add(row, &decoded[..row.len()]);
        }
        return;
    }
    let mut blocks = Blocks::default();
    for (row, packed) in row.chunks(BLOCK).zip(packed.chunks(BLOCK * BITS / 8)) {
        blocks.decode::<BITS>(packed, params, &mut decoded[..row.len()]);
        pieces.add(row, &decoded[..row.len()]);
    }
}

kernel! {
    /// Decodes `weights.len()` weights, in f32 and in this order: `(row_scale * m(c)) * (code - z)`, where
    /// `z = (zero_point * (2^bits - 1)) / 255`.
    ///
    /// ```
    /// use arrow_quant::kernels::{dequantize::dequantize, params::Params};
    ///
    /// let params = Params { bits: 4, group_size: 2, row_scale: 0.5, scales: &[240, 224], zero_points: Some(&[0, 17]) };
    /// let mut weights = [0.0; 4];
    /// dequantize(&[0x10, 0xf7], &params, &mut weights);
    /// assert_eq!(weights, [0.0, 0.5, 1.5, 3.5]);
    /// ```
    pub fn dequantize(packed: &[u8], params: &Params<'_>, weights: &mut [f32]) {
        for_bits!(params.bits, BITS => dequantize_row::<BITS>(packed, params, weights));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dispatch::Target, pack::pack, scale::scale_factor},
        testing::samples::Random,
    };

    #[test]
    fn every_target_decodes_every_code_as_the_formula_says() {
        let mut random = Random::new(3);
        for bits in [2u8, 3, 4, 8] {
            let most = f32::from((1u16 << bits) - 1);
            for n in (0..=300usize).chain([4096, 5003]) {
                for group_size in [1, 5, 32, 96, 128, 288, 512, 544, 2048, usize::MAX] {
                    let groups = n.div_ceil(group_size);
                    let codes: Vec<u8> = (0..n).map(|_| random.bits() as u8 & most as u8).collect();
                    let scales: Vec<u8> = (0..groups).map(|_| random.bits() as u8).collect();
                    let zeros: Vec<u8> = (0..groups).map(|_| random.bits() as u8).collect();
                    let mut packed = vec![0; (n * bits as usize).div_ceil(8)];
                    pack(&codes, bits, &mut packed);
                    for zero_points in [None, Some(&zeros[..])] {
                        let params = Params { bits, group_size, row_scale: 1.37e-3, scales: &scales, zero_points };
                        let want: Vec<f32> = (codes.iter().enumerate())
                            .map(|(i, code)| {
                                let g = i / group_size;
                                let z = zero_points
                                    .map_or(f32::from(1u16 << (bits - 1)), |z| f32::from(z[g]) * most / 255.0);
                                (1.37e-3 * scale_factor(scales[g])) * (f32::from(*code) - z)
                            })
                            .collect();
                        for target in Target::available() {
                            let mut got = vec![f32::NAN; n];
                            dequantize::on(target, &packed, &params, &mut got);
                            assert_eq!(got, want, "{} {bits} bits g{group_size} n{n}", target.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn parameters_that_end_early_do_not_panic() {
        let params = Params { bits: 4, group_size: 2, row_scale: 1.0, scales: &[240], zero_points: Some(&[]) };
        dequantize(&[0x10, 0xf7], &params, &mut [0.0; 9]);
        dequantize(&[], &Params { group_size: 0, ..params }, &mut [0.0; 9]);
    }
}
