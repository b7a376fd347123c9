//! GPTQ (arXiv:2210.17323): column by column, what rounding loses is made up for by the columns that follow.

use super::{
    params::{for_bits, max_code, reciprocal, round_clamped_f32, zero_point},
    range::{covering_scale, group_range},
    scale::scale_factor,
};
use crate::kernels::{dispatch::kernel, search::search_group, triangle::triangle_row};

/// The rows that are quantized together, and what becomes of them. Each row is independent of the others; together they
/// read the factor once.
#[derive(Debug)]
pub struct GptqRows<'a> {
    /// The weights, row after row; what is left in them is what the columns were before they were rounded.
    pub weights: &'a mut [f64],
    /// Each row's scale: the scale codes are relative to it.
    pub row_scales: &'a [f32],
    /// Scale codes, row after row.
    pub scales: &'a mut [u8],
    /// Zero-point codes, row after row.
    pub zero_points: &'a mut [u8],
    /// Codes, a byte each.
    pub codes: &'a mut [u8],
}

/// Returns the largest covering scale of a row's groups: [`GptqRows::row_scales`]. The codes go on to 1.9375 of it, for
/// groups that grow by what they make up for.
#[inline(always)]
fn largest_scale<const BITS: usize>(weights: &[f32], group_size: usize) -> f32 {
    weights.chunks(group_size.max(1)).fold(0.0, |most, group| {
        let (low, high) = group_range(group);
        crate::kernels::lanes::max(covering_scale::<BITS>(low, high, false), most)
    })
}

kernel! {
    /// Returns a row's scale for [`gptq`](fn@gptq), from its weights before anything is made up for.
    pub fn gptq_row_scale(weights: &[f32], bits: u8, group_size: usize) -> f32 {
        for_bits!(bits, BITS => largest_scale::<BITS>(weights, group_size))
    }
}

#[inline(always)]
fn gptq_rows<const BITS: usize>(rows: &mut GptqRows<'_>, factor: &[f32], group_size: usize, scratch: &mut [f32]) {
    let count = rows.row_scales.len();
    let n = rows.codes.len() / count.max(1);
    let groups = n.div_ceil(group_size);
    let (group, importance) = scratch.split_at_mut(group_size);
    for g in 0..groups {
        let (start, end) = (g * group_size, n.min((g + 1) * group_size));
        let (group, importance) = (&mut group[..end - start], &mut importance[..end - start]);
        // A column's error costs by the inverse square of its diagonal; only the ratios matter.
        let diagonal = |i: usize| factor[triangle_row(i, n).start];
        let least = (start..end).map(diagonal).fold(f32::INFINITY, crate::kernels::lanes::min);
        for (weight, i) in importance.iter_mut().zip(start..end) {
            let ratio = least / diagonal(i);
            *weight = ratio * ratio;
        }
        for r in 0..count {
            for (w, now) in group.iter_mut().zip(&rows.weights[r * n + start..r * n + end]) {
                *w = *now as f32;
            }
            let codes = search_group::<BITS>(group, importance, rows.row_scales[r]);
            (rows.scales[r * groups + g], rows.zero_points[r * groups + g]) = codes;
        }
        for i in start..end {
            let column = &factor[triangle_row(i, n)];
            for r in 0..count {
                let scale = rows.row_scales[r] * scale_factor(rows.scales[r * groups + g]);
                let z = zero_point::<BITS>(rows.zero_points[r * groups + g]);
                let (w, rest) = rows.weights[r * n + i..(r + 1) * n].split_at_mut(1);
                let q = round_clamped_f32(w[0] as f32 * reciprocal(scale) + z, max_code::<BITS>());
                rows.codes[r * n + i] = q as u8;
                let error = (w[0] - f64::from(scale * (q - z))) / f64::from(column[0]);
                for (w, u) in rest.iter_mut().zip(&column[1..]) {
                    *w -= error * f64::from(*u);
                }
            }
        }
    }
}

kernel! {
    /// Quantizes rows for the least error of their layer's output, by the factor `U` of the inverse Hessian of its inputs.
    ///
    /// A group's scale and zero point are searched when its first column is reached, for the weights as they are then. A
    /// column counts by how hard its errors are to make up for. `factor` is the upper triangle of `U`, with a positive
    /// diagonal and as many rows as the rows have weights; `scratch` takes `2 * group_size` numbers.
    pub fn gptq(rows: &mut GptqRows<'_>, factor: &[f32], bits: u8, group_size: usize, scratch: &mut [f32]) {
        for_bits!(bits, BITS => gptq_rows::<BITS>(rows, factor, group_size.max(1), scratch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{
            cholesky::{BLOCK, cholesky, invert},
            dispatch::Target,
            hessian::hessian,
            triangle::triangle_len,
        },
        testing::samples,
    };

    /// Returns rows whose neighbouring elements are alike.
    fn correlated(rows: usize, n: usize, seed: u64) -> Vec<f32> {
        let noise = samples::normal(rows * n, seed);
        let mut x = noise.clone();
        for row in x.chunks_mut(n) {
            for i in 1..n {
                row[i] = 0.9 * row[i - 1] + 0.4 * row[i];
            }
        }
        x
    }

    fn factor(x: &[f32], n: usize) -> Vec<f32> {
        let mut h = vec![0.0; triangle_len(n).unwrap()];
        hessian(x, n, &mut h);
        let mean = (0..n).map(|i| h[triangle_row(i, n).start]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| h[triangle_row(i, n).start] += 0.01 * mean);
        assert!(cholesky(&mut h, n));
        invert(&mut h, n, &mut vec![0.0; BLOCK * n]);
        h.iter().map(|u| *u as f32).collect()
    }

    struct Found {
        scales: Vec<u8>,
        zeros: Vec<u8>,
        codes: Vec<u8>,
    }

    fn run(target: Target, weights: &[f32], factor: &[f32], n: usize, bits: u8, g: usize) -> (Vec<f32>, Found) {
        let count = weights.len() / n;
        let row_scales: Vec<f32> = weights.chunks(n).map(|row| gptq_row_scale::on(target, row, bits, g)).collect();
        let (mut scales, mut zeros) = (vec![0; count * n.div_ceil(g)], vec![0; count * n.div_ceil(g)]);
        let mut codes = vec![0; weights.len()];
        let mut working: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let mut rows = GptqRows {
            weights: &mut working,
            row_scales: &row_scales,
            scales: &mut scales,
            zero_points: &mut zeros,
            codes: &mut codes,
        };
        gptq::on(target, &mut rows, factor, bits, g, &mut vec![0.0; 2 * g]);
        (row_scales, Found { scales, zeros, codes })
    }

    #[test]
    fn every_target_finds_the_same_and_rows_are_independent() {
        for (n, g) in [(70, 32), (64, 200), (9, 1)] {
            let u = factor(&correlated(4 * n, n, 3), n);
            let weights = samples::heavy(5 * n, 4);
            for bits in [2, 3, 4, 8] {
                let (scale, all) = run(Target::BASELINE, &weights, &u, n, bits, g);
                for target in Target::available() {
                    let (other, found) = run(target, &weights, &u, n, bits, g);
                    assert_eq!((&other, &found.scales, &found.codes), (&scale, &all.scales, &all.codes));
                    assert_eq!(found.zeros, all.zeros, "{}", target.name());
                }
                let (_, third) = run(Target::best(), &weights[2 * n..3 * n], &u, n, bits, g);
                assert_eq!(third.codes, all.codes[2 * n..3 * n]);
            }
        }
    }

    #[test]
    fn the_output_error_falls_below_that_of_rounding_alone() {
        let (n, g, rows) = (128, 32, 16);
        let inputs = correlated(1000, n, 8);
        let weights = samples::normal(rows * n, 5);
        let identity: Vec<f32> = (0..n).flat_map(|i| (i..n).map(move |j| if i == j { 1.0 } else { 0.0 })).collect();
        for bits in [2, 3, 4] {
            let [plain, fitted] = [&identity, &factor(&inputs, n)].map(|u| {
                let (row_scales, found) = run(Target::best(), &weights, u, n, bits, g);
                let decoded = |r: usize, i: usize| {
                    let at = r * n.div_ceil(g) + i / g;
                    let z = match bits {
                        2 => zero_point::<2>(found.zeros[at]),
                        3 => zero_point::<3>(found.zeros[at]),
                        _ => zero_point::<4>(found.zeros[at]),
                    };
                    row_scales[r] * scale_factor(found.scales[at]) * (f32::from(found.codes[r * n + i]) - z)
                };
                let error = |r: usize, x: &[f32]| {
                    let errors = x.iter().enumerate().map(|(i, x)| f64::from(x * (weights[r * n + i] - decoded(r, i))));
                    errors.sum::<f64>().powi(2)
                };
                (0..rows).map(|r| inputs.chunks(n).map(|x| error(r, x)).sum::<f64>()).sum::<f64>()
            });
            assert!(fitted < 0.6 * plain, "{bits} bits: {fitted} {plain}");
        }
    }
}
