//! Quantizing one row: what `quantize`, `quant_params` and `quantize_with` share.

use super::rows::finite_absmax;
use crate::{
    compute::ComputeError,
    kernels::{extreme, minmax::minmax, params::Params, quantize::quantize, search::search},
    types::{Method, QuantizeOptions},
};

/// Buffers that are reused from row to row.
#[derive(Default)]
pub(in crate::compute) struct RowQuantizer {
    rescaled: Vec<f32>,
    scratch: Vec<f32>,
}

/// A row that was found finite, and brought to a moderate size.
#[derive(Clone, Copy)]
pub(in crate::compute) struct Prepared<'a> {
    weights: &'a [f32],
    power: f32,
}

impl RowQuantizer {
    /// Checks a row, and scales it by a power of two where its size calls for it.
    ///
    /// # Errors
    /// Returns [`ComputeError::NonFinite`] if a weight is infinite or NaN.
    pub(in crate::compute) fn prepare<'a>(
        &'a mut self,
        weights: &'a [f32],
        row: usize,
    ) -> Result<(Prepared<'a>, Scratch<'a>), ComputeError> {
        let power = extreme::power(finite_absmax(weights, row)?);
        let weights = if power == 1.0 {
            weights
        } else {
            self.rescaled.resize(weights.len(), 0.0);
            extreme::rescale(weights, power, &mut self.rescaled);
            &self.rescaled
        };
        Ok((Prepared { weights, power }, Scratch(&mut self.scratch)))
    }
}

/// The buffer that the estimators write their group ranges to.
pub(in crate::compute) struct Scratch<'a>(&'a mut Vec<f32>);

impl Prepared<'_> {
    /// Fills scale codes and zero-point codes, and returns the row's scale.
    ///
    /// The scales of a tiny row may be rounded to the few values that f32 has at its end. There the search's parameters
    /// are kept if they lose less than those of the range, as both are decoded.
    pub(in crate::compute) fn estimate(
        &self,
        importance: Option<&[f32]>,
        options: QuantizeOptions,
        scratch: &mut Scratch,
        scales: &mut [u8],
        mut zero_points: Option<&mut [u8]>,
    ) -> f32 {
        let Self { weights, power } = *self;
        let (bits, group_size) = (options.bits.get(), options.group_size() as usize);
        scratch.0.resize(2 * scales.len(), 0.0);
        let mut by_method = |scales: &mut [u8], codes: Option<&mut [u8]>| match options.method {
            Method::Minmax => minmax(weights, bits, group_size, scratch.0, scales, codes),
            Method::Search => search(weights, importance, bits, group_size, scratch.0, scales, codes),
        };
        if !extreme::is_tiny(power) {
            let row_scale = by_method(scales, zero_points.as_deref_mut());
            if power == 1.0 {
                return row_scale;
            }
            return extreme::settle(weights, power, bits, group_size, row_scale, scales, zero_points.as_deref());
        }
        let range = extreme::tiny_params(weights, power, bits, group_size, scales, zero_points.as_deref_mut());
        if options.method == Method::Minmax {
            return range;
        }
        // Such rows are rare: the buffers of their own are of no account.
        let (mut others, mut zeros) = (vec![0; scales.len()], vec![0; scales.len()]);
        let searched = by_method(&mut others, zero_points.is_some().then_some(&mut zeros[..])) / power;
        let codes = zero_points.is_some().then_some(&zeros[..]);
        let others = Params { bits, group_size, row_scale: searched, scales: &others, zero_points: codes };
        let params = Params { bits, group_size, row_scale: range, scales, zero_points: zero_points.as_deref() };
        let error = |params: &Params| extreme::error(weights, power, importance, params);
        if error(&others) >= error(&params) {
            return range;
        }
        scales.copy_from_slice(others.scales);
        if let Some(place) = zero_points {
            place.copy_from_slice(&zeros);
        }
        searched
    }

    /// Returns true if the row is of a moderate size unscaled.
    pub(in crate::compute) fn is_moderate(&self) -> bool {
        self.power == 1.0
    }

    /// Encodes and packs the row.
    pub(in crate::compute) fn encode(&self, params: &Params, packed: &mut [u8]) {
        quantize(self.weights, self.power, params, packed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernels::dequantize::dequantize, testing::samples, types::Bits};

    fn roundtrip(weights: &[f32], options: QuantizeOptions) -> Vec<f32> {
        let groups = weights.len().div_ceil(options.group_size() as usize);
        let (mut scales, mut zero_points) = (vec![0; groups], vec![0; groups]);
        let mut quantizer = RowQuantizer::default();
        let (prepared, mut scratch) = quantizer.prepare(weights, 0).unwrap();
        let zeros = (!options.symmetric).then_some(&mut zero_points[..]);
        let row_scale = prepared.estimate(None, options, &mut scratch, &mut scales, zeros);
        let params = Params {
            bits: options.bits.get(),
            group_size: options.group_size() as usize,
            row_scale,
            scales: &scales,
            zero_points: (!options.symmetric).then_some(&zero_points[..]),
        };
        let mut packed = vec![0; options.bits.packed_len(weights.len())];
        prepared.encode(&params, &mut packed);
        let mut out = vec![f32::NAN; weights.len()];
        dequantize(&packed, &params, &mut out);
        out
    }

    fn every_option() -> impl Iterator<Item = QuantizeOptions> {
        Bits::ALL.into_iter().flat_map(|bits| {
            [1, 7, 32, 128, i64::from(u32::MAX)].into_iter().flat_map(move |group_size| {
                Method::ALL.iter().copied().flat_map(move |method| {
                    [false, true].map(|symmetric| {
                        let options = QuantizeOptions::new(bits).with_group_size(group_size).unwrap();
                        options.with_method(method).with_symmetric(symmetric)
                    })
                })
            })
        })
    }

    #[test]
    fn every_row_decodes_to_finite_weights_within_the_step_of_its_group() {
        for weights in samples::rows().step_by(3) {
            for options in every_option() {
                let out = roundtrip(&weights, options);
                let absmax = weights.iter().fold(0f64, |m, x| m.max(f64::from(x.abs())));
                for (group, out) in
                    weights.chunks(options.group_size() as usize).zip(out.chunks(options.group_size() as usize))
                {
                    let low = group.iter().fold(0f64, |m, x| m.min(f64::from(*x)));
                    let high = group.iter().fold(0f64, |m, x| m.max(f64::from(*x)));
                    let most = f64::from(options.bits.max_code());
                    // The scale of a group is at least 2^-15 of the row's, and at least a unit of f32.
                    let middle = f64::from(1u16 << (options.bits.get() - 1));
                    let covering = if options.symmetric {
                        (high / (middle - 1.0)).max(-low / middle)
                    } else {
                        (high - low) / most
                    };
                    let step = (covering * 1.07).max(absmax * 2f64.powi(-14)).max(f64::from(f32::from_bits(1)));
                    for (w, out) in group.iter().zip(out) {
                        assert!(out.is_finite(), "{options:?}: {w} gave {out}");
                        if options.method == Method::Minmax {
                            let error = (f64::from(*w) - f64::from(*out)).abs();
                            // At the end of f32 a scale is rounded down, so that nothing decodes to infinity.
                            let step = if absmax > 1e38 { step + absmax * 0.07 } else { step };
                            assert!(error <= step, "{options:?}: {w} gave {out}, step {step}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_constants_and_single_weights_decode_to_what_went_in() {
        // A scale is a whole number of f32's least units, and is multiplied by up to 255.
        let unit = f64::from(f32::from_bits(1));
        for options in every_option() {
            assert_eq!(roundtrip(&[0.0; 70], options), [0.0; 70]);
            for value in [1.0, -0.37, 3e-39, 1e-45, f32::MAX, -f32::MAX, 1e-20, -7e25] {
                for n in [1, 40] {
                    for out in roundtrip(&vec![value; n], options) {
                        let near =
                            (f64::from(out) - f64::from(value)).abs() <= f64::from(value.abs()) * 4e-6 + unit * 255.0;
                        assert!(near, "{options:?}: {value:e} gave {out:e}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_below_1e_31_keeps_the_search() {
        for options in every_option().filter(|options| options.bits != Bits::Eight) {
            let weights = samples::heavy(512, 5);
            let error = |weights: &[f32], method| -> f64 {
                let out = roundtrip(weights, options.with_method(method));
                weights.iter().zip(&out).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
            };
            for factor in [1e-31, 1e-35, 1e-38, 1e-40, 1e-43] {
                let scaled: Vec<f32> = weights.iter().map(|w| w * factor).collect();
                let [search, range] = [Method::Search, Method::Minmax].map(|method| error(&scaled, method));
                assert!(search <= range, "{options:?}, {factor:e}: {search:e} {range:e}");
                if factor > 1e-39 {
                    let wanted = error(&weights, Method::Search) * f64::from(factor).powi(2);
                    assert!(search < wanted * 1.01, "{options:?}, {factor:e}: {search:e} {wanted:e}");
                }
            }
        }
    }

    #[test]
    fn a_power_of_two_changes_nothing_but_the_row_scale() {
        for options in every_option().filter(|options| options.group_size() == 32) {
            let weights = samples::heavy(200, 5);
            let want = roundtrip(&weights, options);
            for exponent in [-80, -40, 40, 100] {
                let factor = 2f32.powi(exponent);
                let scaled: Vec<f32> = weights.iter().map(|w| w * factor).collect();
                let got: Vec<f32> = roundtrip(&scaled, options).iter().map(|w| w / factor).collect();
                assert_eq!(got, want, "{options:?} times 2^{exponent}");
            }
        }
    }
}
