//! `quantize_step` and `quantize_entropy`: rows of floats to entropy-coded values.

use std::ops::Range;

use arrow_array::{Array, ArrayRef};

use super::{
    ComputeError,
    arrays::{
        builder::QuantizedBuilder,
        entropy_row::{RowsEncoder, fills_lanes},
        rows::{Rows, finite_absmax},
    },
};
use crate::{kernels::entropy::MOST_LEVEL, types::quantized::ENTROPY_GROUP_SIZE};

/// Quantizes each row of `weights` to multiples of its step, entropy-coded ([`crate::kernels::entropy`]).
///
/// One step for all rows of a model gives the least squared error for the bytes that result: rows of little energy then take
/// few bits by themselves. `weights` is any list array of floats ([`Rows`]); the result has the type
/// [`quantized_type`](crate::types::quantized::quantized_type), with `bits` 0. A null row, and a row without a step, gives null.
/// Rows are independent: slicing, batching and threads do not change a bit.
///
/// # Errors
/// Returns an error if `weights` is of another type, if a weight is null, infinite or NaN (the error names row and element), if
/// a step is not a finite number above 0 or the row's largest weight is more than 1,048,576 of them, or if the result would pass
/// what one array holds.
///
/// # Example
/// ```
/// use arrow_array::{Array, ListArray, types::Float32Type};
/// use arrow_quant::compute;
///
/// let row = [0.0f32, 0.1, -0.2, 0.3].map(Some).to_vec();
/// let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row), None]);
/// let quantized = compute::quantize_step(&weights, &[Some(0.01), Some(0.01)])?;
/// assert!(quantized.is_null(1));
/// let decoded = compute::dequantize(&quantized)?;
/// assert!(compute::sqnr(&weights, &decoded)?.value(0) > 20.0);
/// # Ok::<(), compute::ComputeError>(())
/// ```
pub fn quantize_step(weights: &dyn Array, steps: &[Option<f32>]) -> Result<ArrayRef, ComputeError> {
    by_chunks(weights, steps, |encoder, rows| {
        let mut with_steps = Vec::with_capacity(rows.len());
        for Job { row, weights, wanted: step, absmax } in rows {
            if !(step.is_finite() && *step > 0.0) {
                let problem = format!("row {row}: step must be a finite number above 0, not {step}");
                return Err(ComputeError::InvalidArgument(problem));
            }
            if absmax / step > MOST_LEVEL as f32 {
                return Err(ComputeError::InvalidArgument(format!(
                    "row {row}: step {step} is too small: the largest weight, {absmax}, is more than {MOST_LEVEL} steps"
                )));
            }
            with_steps.push((*weights, *step));
        }
        let codes = encoder.encode(&with_steps, ENTROPY_GROUP_SIZE as usize);
        Ok(with_steps.iter().map(|(_, step)| *step).zip(codes).collect())
    })
}

/// Quantizes each row of `weights` to at most so many bits a weight, entropy-coded as [`quantize_step`] does. Each row gets the
/// smallest step found whose codes fit; the 32 bits of the step are not counted.
///
/// # Errors
/// Returns the errors of [`quantize_step`] about weights; also an error unless bits are 1 to 8.
pub fn quantize_entropy(weights: &dyn Array, bits: &[Option<f64>]) -> Result<ArrayRef, ComputeError> {
    by_chunks(weights, bits, |encoder, rows| {
        for Job { row, wanted: bits, .. } in rows {
            if !(1.0..=8.0).contains(bits) {
                let problem = format!("row {row}: bits must be 1 to 8 with method 'entropy', not {bits}");
                return Err(ComputeError::InvalidArgument(problem));
            }
        }
        Ok(fit(encoder, rows))
    })
}

/// A row to be quantized, with what is wanted of it: a step or bits.
struct Job<'a, T> {
    row: usize,
    weights: &'a [f32],
    wanted: T,
    absmax: f32,
}

/// The search for a row's step.
struct Search {
    /// The next step to try.
    step: f32,
    /// The largest step that takes too many bytes, and the smallest that does not, with its codes.
    too_small: f32,
    fits: Option<(f32, Vec<u8>)>,
    budget: usize,
    settled: bool,
}

/// Times that the search encodes a row, at most.
const TRIES: usize = 8;

/// Returns the step and the codes of each row, which take no more than its bits.
fn fit(encoder: &mut RowsEncoder, rows: &[Job<f64>]) -> Vec<(f32, Vec<u8>)> {
    let mut searches: Vec<Search> = rows.iter().map(Search::new).collect();
    for attempt in 0..TRIES {
        let open: Vec<usize> = (0..rows.len()).filter(|i| !searches[*i].settled).collect();
        let with_steps: Vec<_> = open.iter().map(|i| (rows[*i].weights, searches[*i].step)).collect();
        let codes = encoder.encode(&with_steps, ENTROPY_GROUP_SIZE as usize);
        for (i, codes) in open.into_iter().zip(codes) {
            searches[i].take(&rows[i], codes, attempt + 1 == TRIES);
        }
    }
    searches.into_iter().map(|search| search.fits.unwrap_or_default()).collect()
}

impl Search {
    fn new(row: &Job<f64>) -> Self {
        let squares = row.weights.iter().map(|weight| f64::from(*weight).powi(2)).sum::<f64>();
        let rms = (squares / row.weights.len().max(1) as f64).sqrt();
        // A normal row takes 2 bits at half its deviation.
        let step = coarse((rms * 2.0 * exp2(-row.wanted)) as f32).clamp(row.least_step(), row.most_step());
        let budget = (row.wanted * row.weights.len() as f64 / 8.0) as usize;
        Self { step, too_small: 0.0, fits: None, budget, settled: false }
    }

    /// Takes the codes that the step gave. With `last` they count even if they do not fit.
    fn take(&mut self, row: &Job<f64>, codes: Vec<u8>, last: bool) {
        let weights = row.weights.len().max(1) as f64;
        let excess = 8.0 * (codes.len() as f64 - self.budget as f64) / weights;
        let (step, at_most) = (self.step, codes.len() <= self.budget);
        let end = row.absmax == 0.0 || if at_most { step <= row.least_step() } else { step >= row.most_step() };
        if at_most || end || (last && self.fits.is_none()) {
            self.fits = Some((step, codes));
        } else {
            self.too_small = step;
        }
        // Steps are 1/128 apart at most, 0.011 bits.
        let fits = self.fits.as_ref().map_or(f32::MAX, |(step, _)| *step);
        self.settled = end || (at_most && excess > -0.012) || fits / self.too_small < 1.008;
        let next = coarse((f64::from(step) * exp2(excess + if at_most { 0.0 } else { 0.004 })) as f32);
        let between = next > self.too_small && next < fits;
        self.step = if between { next } else { coarse((self.too_small * fits).sqrt()) };
        self.step = self.step.clamp(row.least_step(), row.most_step());
    }
}

impl Job<'_, f64> {
    fn least_step(&self) -> f32 {
        (self.absmax / MOST_LEVEL as f32).max(f32::from_bits(1)).min(self.most_step())
    }

    /// Returns the step of which the largest weight is two: the first level of a row must be even.
    fn most_step(&self) -> f32 {
        if self.absmax > f32::from_bits(1) { self.absmax / 2.0 } else { self.absmax }
    }
}

/// Rounds a step up to eight significant bits: rows share steps, which then take less room in files.
fn coarse(step: f32) -> f32 {
    let up = step.to_bits().saturating_add(0xffff) & !0xffff;
    f32::from_bits(up.min(0x7f7f_0000))
}

/// Returns `2^x` for small `x`, by arithmetic that is the same on every platform.
fn exp2(x: f64) -> f64 {
    let whole = x.floor();
    // e^y for y below ln 2, to a millionth.
    let y = (x - whole) * std::f64::consts::LN_2;
    let fraction = (1..=9).rev().fold(1.0, |sum, i| 1.0 + sum * y / f64::from(i));
    let powers = (0..whole.abs().min(64.0) as u32).fold(1.0, |power, _| power * 2.0);
    if whole < 0.0 { fraction / powers } else { fraction * powers }
}

/// Quantizes chunks of rows, as many as fill the lanes, by `encode`, which gives a step and codes for each.
fn by_chunks<T: Copy>(
    weights: &dyn Array,
    wanted: &[Option<T>],
    encode: impl Fn(&mut RowsEncoder, &[Job<T>]) -> Result<Vec<(f32, Vec<u8>)>, ComputeError>,
) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    if wanted.len() != rows.len() {
        let problem = format!("options are given for {} rows where there are {}", wanted.len(), rows.len());
        return Err(ComputeError::InvalidArgument(problem));
    }
    let mut builder = QuantizedBuilder::with_capacity(rows.len());
    let (mut encoder, mut widened, mut copied) = (RowsEncoder::default(), Vec::new(), Vec::new());
    let mut first = 0;
    while first < rows.len() {
        copied.clear();
        let mut chunk: Vec<(usize, T, f32, Range<usize>)> = Vec::new();
        let mut next = first;
        while next < rows.len() && !fills_lanes(chunk.len(), copied.len()) {
            if let (Some(row), Some(wanted)) = (rows.row(next, &mut widened)?, wanted[next]) {
                let absmax = finite_absmax(row, next)?;
                chunk.push((next, wanted, absmax, copied.len()..copied.len() + row.len()));
                copied.extend_from_slice(row);
            }
            next += 1;
        }
        let chunk: Vec<Job<T>> = chunk
            .into_iter()
            .map(|(row, wanted, absmax, at)| Job { row, weights: &copied[at], wanted, absmax })
            .collect();
        let mut encoded = chunk.iter().zip(encode(&mut encoder, &chunk)?).peekable();
        for row in first..next {
            match encoded.next_if(|(of, _)| of.row == row) {
                Some((of, (step, codes))) => builder.push_entropy(of.weights.len(), step, &codes)?,
                None => builder.push_null()?,
            }
        }
        first = next;
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat;
    use arrow_array::cast::AsArray;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        compute::{dequantize, error_stats, quantize, scales, sqnr},
        testing::{
            arrays::{Parts, array, list},
            samples,
        },
        types::{Bits, QuantizeOptions},
    };

    fn list_of(rows: &[Vec<f32>]) -> ArrayRef {
        list(&rows.iter().map(|row| Some(&row[..])).collect::<Vec<_>>())
    }

    fn codes_len(quantized: &dyn Array, row: usize) -> usize {
        quantized.as_struct().column_by_name("codes").unwrap().as_binary::<i32>().value(row).len()
    }

    /// The ratio of a row in dB, and the bits a weight that its codes take.
    fn figures(row: &[f32], quantized: &dyn Array) -> (f64, f64) {
        let ratio = sqnr(&list(&[Some(row)]), quantized).unwrap().value(0);
        (ratio, 8.0 * codes_len(quantized, 0) as f64 / row.len() as f64)
    }

    #[test]
    fn normal_rows_are_within_0_6_decibels_of_the_bound_and_heavy_ones_gain() {
        let row = samples::normal(1 << 19, 5);
        // About 2, 3 and 4 bits.
        for step in [0.503, 0.257, 0.129] {
            let (ratio, bits) = figures(&row, &quantize_step(&list(&[Some(&row)]), &[Some(step)]).unwrap());
            assert!(ratio > 6.0206 * bits - 0.6, "step {step}: {ratio} dB at {bits} bits");
        }
        let row = samples::heavy(1 << 16, 6);
        let (ratio, bits) = figures(&row, &quantize_entropy(&list(&[Some(&row)]), &[Some(2.5)]).unwrap());
        assert!(bits <= 2.5 && ratio > 15.8, "{ratio} dB at {bits} bits");
    }

    #[test]
    fn any_number_of_bits_is_met_from_below() {
        for (length, kind) in [(64, 0), (384, 1), (1536, 0), (5000, 1), (18_944, 0)] {
            let row = if kind == 0 { samples::normal(length, 3) } else { samples::heavy(length, 4) };
            for bits in [1.0, 1.3, 2.5, 3.2, 4.0, 6.5, 8.0] {
                let got = figures(&row, &quantize_entropy(&list(&[Some(&row)]), &[Some(bits)]).unwrap()).1;
                let slack = 0.02 + 24.0 / length as f64;
                assert!(got <= bits && got > bits - slack, "{length}: {got} for {bits}");
            }
        }
    }

    #[test]
    fn rows_do_not_see_each_other_and_stand_beside_values_of_fixed_width() {
        let rows: Vec<Vec<f32>> = samples::rows().filter(|row| row.len() % 7 == 3).take(150).collect();
        let weights = list_of(&rows);
        let absmax = |row: &Vec<f32>| row.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let steps: Vec<_> = rows.iter().map(|row| Some((absmax(row) / 9.0).max(1e-45))).collect();
        let all = quantize_step(&weights, &steps).unwrap();
        let fitted = quantize_entropy(&weights, &vec![Some(3.0); rows.len()]).unwrap();
        for row in 0..rows.len() {
            let one = weights.slice(row, 1);
            assert_eq!(&all.slice(row, 1), &quantize_step(&one, &steps[row..=row]).unwrap());
            assert_eq!(&fitted.slice(row, 1), &quantize_entropy(&one, &[Some(3.0)]).unwrap());
        }
        let packed = quantize(&weights, &QuantizeOptions::new(Bits::Four).into()).unwrap();
        let mixed = concat(&[&all, &packed, &fitted.slice(0, 5)]).unwrap();
        let decoded = dequantize(&mixed).unwrap();
        let parts = [dequantize(&all).unwrap(), dequantize(&packed).unwrap(), dequantize(&fitted.slice(0, 5)).unwrap()];
        assert_eq!(&decoded, &concat(&[&parts[0], &parts[1], &parts[2]]).unwrap());
        assert_eq!(&error_stats(&weights, &all).unwrap(), &error_stats(&weights, &parts[0]).unwrap());
        for (row, weights) in rows.iter().enumerate() {
            let decoded = parts[0].as_list::<i32>().value(row);
            let step = f64::from(steps[row].unwrap());
            for (a, b) in weights.iter().zip(decoded.as_primitive::<arrow_array::types::Float32Type>().values()) {
                assert!(b.is_finite() && f64::from((a - b).abs()) <= 6.0 * step, "row {row}: {a}, {b}");
            }
        }
        assert_eq!(scales(&all).unwrap().as_list::<i32>().value(1).len(), rows[1].len().div_ceil(4096));
    }

    #[test]
    fn nulls_zeros_and_rows_of_one_weight_are_kept() {
        let zeros = vec![0.0; 9000];
        let weights = list(&[Some(&[]), None, Some(&zeros), Some(&[-7.25]), Some(&[1.0])]);
        let bits = [Some(2.0), Some(2.0), Some(2.0), Some(8.0), None];
        let fitted = quantize_entropy(&weights, &bits).unwrap();
        assert_eq!([1, 4].map(|row| fitted.is_null(row)), [true, true]);
        assert_eq!([0, 2].map(|row| codes_len(&fitted, row)), [0, 10]);
        assert_eq!(&dequantize(&fitted.slice(0, 4)).unwrap(), &weights.slice(0, 4));
    }

    #[test]
    fn bad_steps_bits_and_weights_are_named() {
        let weights = list(&[Some(&[1.0]), Some(&[1.0, 3.0])]);
        let step = |step| quantize_step(&weights, &[Some(1.0), Some(step)]).unwrap_err().to_string();
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(step(bad), format!("row 1: step must be a finite number above 0, not {bad}"));
        }
        assert!(step(1e-6).contains("the largest weight, 3, is more than 1048576 steps"));
        for bad in [0.9, 8.1, f64::NAN] {
            let error = quantize_entropy(&weights, &[Some(2.0), Some(bad)]).unwrap_err().to_string();
            assert_eq!(error, format!("row 1: bits must be 1 to 8 with method 'entropy', not {bad}"));
        }
        let error = quantize_step(&weights, &[]).unwrap_err().to_string();
        assert_eq!(error, "options are given for 0 rows where there are 2");
        let error = quantize_step(&list(&[Some(&[f32::NAN])]), &[Some(1.0)]).unwrap_err().to_string();
        assert_eq!(error, "row 0, element 0 is NaN; only finite values are accepted");
    }

    /// A value that was made, and then changed.
    fn spoiled() -> impl Strategy<Value = (Parts, bool)> {
        let length = prop_oneof![1usize..40, prop::sample::select(vec![384usize, 5000, 9000])];
        let change = prop_oneof![
            4 => (0usize..1000, any::<u8>()).prop_map(|(at, by)| (0, at, by)),
            1 => (0usize..1000).prop_map(|at| (1, at, 0)),
            1 => (0usize..9, any::<u8>()).prop_map(|(field, by)| (2, field, by)),
        ];
        (length, any::<u64>(), change).prop_map(|(length, seed, (kind, at, by))| {
            let row = samples::heavy(length, seed);
            let value = quantize_step(&list(&[Some(&row)]), &[Some(0.3)]).unwrap();
            let codes = value.as_struct().column_by_name("codes").unwrap().as_binary::<i32>().value(0).to_vec();
            let mut parts = Parts {
                bits: Some(0),
                group_size: Some(4096),
                length: Some(length as u32),
                row_scale: Some(0.3),
                codes: Some(codes.clone()),
                scales: Some(vec![]),
                zero_points: None,
            };
            let mut codes = codes;
            let at_most = codes.len() - 1;
            match (kind, at) {
                (0, _) => codes[at.min(at_most)] ^= by,
                (1, _) => codes.truncate(at.min(at_most)),
                (_, 0) => parts.length = Some(length as u32 + u32::from(by)),
                (_, 1) => parts.length = Some(u32::MAX - u32::from(by)),
                (_, 2) => parts.group_size = Some(u32::from(by)),
                (_, 3) => parts.group_size = Some(8000 + u32::from(by)),
                (_, 4) => parts.row_scale = Some(f32::from_bits(u32::from(by) << 23)),
                (_, 5) => parts.scales = Some(vec![0; usize::from(by)]),
                (_, 6) => parts.zero_points = Some(vec![]),
                (_, 7) => parts.length = None,
                (_, _) => parts.group_size = None,
            }
            let same = kind == 0 && by == 0;
            parts.codes = Some(codes);
            (parts, same)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_change_of_a_value_brings_about_a_panic((parts, same) in spoiled()) {
            let array = array(&[None, Some(parts)]);
            match dequantize(&array) {
                Ok(_) => {}
                Err(error) => {
                    prop_assert!(!same);
                    prop_assert!(matches!(error, ComputeError::Corrupt { row: 1, .. }), "{}", error);
                }
            }
        }
    }
}
