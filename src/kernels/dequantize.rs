//! Packed codes to weights: `weight = row_scale * m(c) * (code - z)`.

use super::{
    dispatch::kernel,
    pack::unpack_codes,
    params::{Params, for_bits},
};

/// Codes unpacked before they are decoded: whole bytes at every width.
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

#[inline(always)]
fn dequantize_row<const BITS: usize>(packed: &[u8], params: &Params, weights: &mut [f32]) {
    let group_size = params.group_size.max(1);
    let mut staged = [0; BLOCK];
    let (mut group, mut left, mut scale, mut zero_point) = (0, 0, 0.0, 0.0);
    for (weights, packed) in weights.chunks_mut(BLOCK).zip(packed.chunks(BLOCK * BITS / 8)) {
        unpack_codes::<BITS>(packed, &mut staged[..weights.len()]);
        let mut start = 0;
        while start < weights.len() {
            if left == 0 {
                (scale, zero_point) = params.group::<BITS>(group);
                (group, left) = (group + 1, group_size);
            }
            let end = weights.len().min(start.saturating_add(left));
            decode(&staged[start..end], scale, zero_point, &mut weights[start..end]);
            left -= end - start;
            start = end;
        }
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
    use crate::kernels::{dispatch::Target, pack::pack, samples::Random, scale::scale_factor};

    #[test]
    fn every_target_decodes_every_code_as_the_formula_says() {
        let mut random = Random::new(3);
        for bits in [2u8, 3, 4, 8] {
            let most = f32::from((1u16 << bits) - 1);
            for n in (0..=300usize).chain([4096]) {
                for group_size in [1, 5, 32, 128, usize::MAX] {
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
