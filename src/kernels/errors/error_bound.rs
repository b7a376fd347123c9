//! The largest error that rounding explains.

use crate::kernels::{
    dispatch::kernel,
    lanes::{each_pair, fold, max},
};

kernel! {
    /// Returns the first group of a row whose squared errors add up to more than `n (share absmax + least)^2`, for its `n`
    /// weights and the largest size `absmax` among them. Returns the number of groups if there is none.
    ///
    /// Errors whose squares leave the range of f32 are not told apart: a group passes then.
    ///
    /// ```
    /// use arrow_quant::kernels::error_bound::first_beyond;
    ///
    /// assert_eq!(first_beyond(&[1.0, 1.0, 0.5, 0.5], &[1.1, 0.9, 0.0, 0.5], 2, 0.2, 0.0), 1);
    /// assert_eq!(first_beyond(&[1.0, 1.0, 0.5, 0.5], &[1.1, 0.9, 0.4, 0.5], 2, 0.2, 0.0), 2);
    /// ```
    pub fn first_beyond(weights: &[f32], decoded: &[f32], group_size: usize, share: f32, least: f32) -> usize {
        const LANES: usize = 16;
        let group_size = group_size.max(1);
        let groups = weights.chunks(group_size).zip(decoded.chunks(group_size));
        let beyond = |(weights, decoded): (&[f32], &[f32])| {
            let (mut absmax, mut errors) = ([0f32; LANES], [0f32; LANES]);
            each_pair::<_, LANES>(weights, decoded, |lane, x, decoded| {
                absmax[lane] = max(x.abs(), absmax[lane]);
                errors[lane] += (x - decoded) * (x - decoded);
            });
            let most = share * fold(absmax, max) + least;
            fold(errors, |a, b| a + b) > weights.len() as f32 * (most * most)
        };
        groups.clone().position(beyond).unwrap_or(groups.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dispatch::Target, testing::samples};

    #[test]
    fn every_target_names_the_group_that_plain_sums_name() {
        for x in samples::rows().step_by(5).filter(|x| x.iter().all(|x| x.abs() < 1e9)) {
            for g in [7, 32, 300] {
                for share in [0.02, 0.1, 0.4] {
                    let decoded: Vec<f32> = x.iter().enumerate().map(|(i, x)| x * (i % 5) as f32 * 0.25).collect();
                    let naive = x.chunks(g).zip(decoded.chunks(g)).position(|(x, decoded)| {
                        let absmax = x.iter().fold(0f64, |most, x| most.max(f64::from(x.abs())));
                        let error: f64 = x.iter().zip(decoded).map(|(x, y)| f64::from(x - y).powi(2)).sum();
                        error > x.len() as f64 * (f64::from(share) * absmax + 1e-6).powi(2)
                    });
                    let want = naive.unwrap_or(x.len().div_ceil(g));
                    for target in Target::available() {
                        let found = first_beyond::on(target, &x, &decoded, g, share, 1e-6);
                        assert_eq!(found, want, "{} g{g} {share}", target.name());
                    }
                }
            }
        }
    }
}
