//! Weights to packed codes, the parameters given.

use super::{
    pack::pack_codes,
    params::{AT_A_TIME, GROUPS_AT_A_TIME, Params, for_bits, max_code, reciprocal, round_clamped},
};
use crate::kernels::dispatch::kernel;

/// Weights encoded before they are packed: whole bytes at every width, and small enough for registers and L1.
const BLOCK: usize = 256;

#[inline(always)]
pub(in crate::kernels) fn encode<const BITS: usize>(weights: &[f32], inverse: f32, zero_point: f32, codes: &mut [u8]) {
    let (chunks, rest) = weights.as_chunks::<32>();
    let (code_chunks, code_rest) = codes.as_chunks_mut::<32>();
    for (weights, codes) in chunks.iter().zip(code_chunks) {
        for (w, code) in weights.iter().zip(codes) {
            *code = round_clamped(w * inverse + zero_point, max_code::<BITS>());
        }
    }
    for (w, code) in rest.iter().zip(code_rest) {
        *code = round_clamped(w * inverse + zero_point, max_code::<BITS>());
    }
}

/// Quantizes whole groups, many at a time.
#[inline(always)]
fn quantize_groups<const BITS: usize>(weights: &[f32], power: f32, params: &Params, packed: &mut [u8]) {
    let size = params.group_size;
    let groups = AT_A_TIME / size;
    let mut staged = [0; AT_A_TIME];
    let (mut inverses, mut zeros) = ([0.0; GROUPS_AT_A_TIME], [0.0; GROUPS_AT_A_TIME]);
    let blocks = weights.chunks(groups * size).zip(packed.chunks_mut(groups * size * BITS / 8));
    for (block, (weights, packed)) in blocks.enumerate() {
        params.groups::<BITS>(block * groups, &mut inverses[..groups], &mut zeros[..groups]);
        for inverse in &mut inverses[..groups] {
            *inverse = reciprocal(*inverse * power);
        }
        let of_groups = inverses.iter().zip(&zeros);
        for ((weights, codes), (inverse, zero)) in weights.chunks(size).zip(staged.chunks_mut(size)).zip(of_groups) {
            encode::<BITS>(weights, *inverse, *zero, &mut codes[..weights.len()]);
        }
        pack_codes::<BITS>(&staged[..weights.len()], packed);
    }
}

#[inline(always)]
fn quantize_row<const BITS: usize>(weights: &[f32], power: f32, params: &Params, packed: &mut [u8]) {
    let group_size = params.group_size.max(1);
    let mut staged = [0; BLOCK];
    let (mut group, mut left, mut inverse, mut zero_point) = (0, 0, 0.0, 0.0);
    for (weights, packed) in weights.chunks(BLOCK).zip(packed.chunks_mut(BLOCK * BITS / 8)) {
        let mut start = 0;
        while start < weights.len() {
            if left == 0 {
                let (scale, zero) = params.group::<BITS>(group);
                (inverse, zero_point) = (reciprocal(scale * power), zero);
                (group, left) = (group + 1, group_size);
            }
            let end = weights.len().min(start.saturating_add(left));
            encode::<BITS>(&weights[start..end], inverse, zero_point, &mut staged[start..end]);
            left -= end - start;
            start = end;
        }
        pack_codes::<BITS>(&staged[..weights.len()], packed);
    }
}

kernel! {
    /// Encodes and packs a row: `code = clamp(round(w * (1 / (scale * power)) + z), 0, 2^bits - 1)`, ties to even.
    ///
    /// `weights` are the row's weights times `power`, a power of two that keeps the arithmetic away from both
    /// ends of f32 ([`extreme`](crate::kernels::extreme)); 1 but for rows of denormals or huge values.
    /// `packed` takes `ceil(weights.len() * bits / 8)` bytes.
    ///
    /// ```
    /// use arrow_quant::kernels::{params::Params, quantize::quantize};
    ///
    /// let params = Params { bits: 4, group_size: 4, row_scale: 0.5, scales: &[240], zero_points: Some(&[0]) };
    /// let mut packed = [0; 2];
    /// quantize(&[0.0, 0.5, 3.4, 100.0], 1.0, &params, &mut packed);
    /// assert_eq!(packed, [0x10, 0xf7]);
    /// ```
    pub fn quantize(weights: &[f32], power: f32, params: &Params<'_>, packed: &mut [u8]) {
        for_bits!(params.bits, BITS => {
            if params.is_regular(weights.len()) {
                quantize_groups::<BITS>(weights, power, params, packed);
            } else {
                quantize_row::<BITS>(weights, power, params, packed);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{dispatch::Target, pack::unpack},
        testing::samples,
    };

    #[test]
    fn every_target_gives_the_codes_of_the_formula() {
        for row in samples::rows().step_by(2) {
            for (bits, group_size) in
                [(2u8, 32), (3, 5), (3, 96), (4, 128), (8, 1), (4, usize::MAX), (8, 33), (8, 512), (2, 288), (4, 544)]
            {
                let groups = row.len().div_ceil(group_size);
                let scales: Vec<u8> = (0..groups).map(|g| (g * 37 % 256) as u8).collect();
                let zeros: Vec<u8> = (0..groups).map(|g| (g * 91 % 256) as u8).collect();
                let most = f32::from((1u16 << bits) - 1);
                for zero_points in [None, Some(&zeros[..])] {
                    let params = Params { bits, group_size, row_scale: 0.7, scales: &scales, zero_points };
                    let want: Vec<u8> = row
                        .iter()
                        .enumerate()
                        .map(|(i, w)| {
                            let g = i / group_size;
                            let s = 0.7 * crate::kernels::scale::scale_factor(scales[g]);
                            let z =
                                zero_points.map_or(f32::from(1u16 << (bits - 1)), |z| f32::from(z[g]) * most / 255.0);
                            (w * (1.0 / s) + z).clamp(0.0, most).round_ties_even() as u8
                        })
                        .collect();
                    for target in Target::available() {
                        let mut packed = vec![0; (row.len() * bits as usize).div_ceil(8)];
                        quantize::on(target, &row, 1.0, &params, &mut packed);
                        let mut codes = vec![0; row.len()];
                        unpack(&packed, bits, &mut codes);
                        assert_eq!(codes, want, "{} {bits} bits g{group_size}", target.name());
                    }
                }
            }
        }
    }
}
