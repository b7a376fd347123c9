//! `gptq`: rows quantized for the least error of their layer's output.

use arrow_array::{Array, ArrayRef, ListViewArray, StructArray, cast::AsArray, types::Float32Type};

use super::{
    ComputeError, RowOptions,
    arrays::{
        builder::{QuantizedBuilder, RowShape},
        row::RowQuantizer,
        rows::Rows,
    },
};
use crate::{
    kernels::{
        gptq::{GptqRows, gptq as gptq_rows, gptq_row_scale},
        pack::pack,
        triangle::{triangle_row, triangle_side},
    },
    types::{QuantizeOptions, factor::factor_type},
};

/// Rows that are quantized together where they share a factor.
const TOGETHER: usize = 16;

/// Quantizes each row of `weights` by GPTQ (arXiv:2210.17323): what rounding a column loses is made up for by the columns
/// after it, as the inputs of the layer allow.
///
/// `factors` are those of [`hessian_factor`](super::hessian_factor), one for each row of weights; rows beside each other that
/// share one read it once. Bits and group size are those of the row's options; its method is not looked at, and there
/// are always zero points. The result has the type [`quantized_type`](crate::types::quantized::quantized_type). A null
/// row, factor, or options, gives null. A row of zeros, of denormals or of weights near the end of f32 is quantized as
/// [`quantize`](super::quantize) does by search. Rows are independent: slicing, batching and threads do not change a bit.
///
/// # Errors
/// Returns an error if an array is of another type, a weight is null, infinite or NaN, or a factor is for another
/// length than its row's or has a diagonal that is not above 0.
pub fn gptq(weights: &dyn Array, factors: &dyn Array, options: &RowOptions) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    options.check_len(rows.len())?;
    let factors = Factors::try_new(factors, rows.len())?;
    let mut builder = QuantizedBuilder::with_capacity(rows.len());
    let (mut batch, mut quantizer, mut widened) = (Batch::default(), RowQuantizer::default(), Vec::new());
    for row in 0..rows.len() {
        let (Some(weights), Some(factor), Some(options)) =
            (rows.row(row, &mut widened)?, factors.place(row), options.get(row))
        else {
            batch.flush(&mut builder)?;
            builder.push_null()?;
            continue;
        };
        let (prepared, mut scratch) = quantizer.prepare(weights, row)?;
        let group_size = (options.group_size() as usize).min(weights.len().max(1));
        let row_scale = gptq_row_scale(weights, options.bits.get(), group_size);
        if !(prepared.is_moderate() && row_scale > 0.0) {
            batch.flush(&mut builder)?;
            let options = options.with_method(crate::types::Method::Search);
            let mut out = builder.push(RowShape::new(options, weights.len(), true))?;
            let zero_points = out.zero_points.as_deref_mut();
            *out.row_scale = prepared.estimate(None, options, &mut scratch, out.scales, zero_points);
            out.encode(options, |params, packed| prepared.encode(params, packed));
            continue;
        }
        if batch.key != Some((factor, options, weights.len())) || batch.row_scales.len() == TOGETHER {
            batch.flush(&mut builder)?;
            batch.factor = factors.factor(factor, weights.len(), row)?;
            batch.key = Some((factor, options, weights.len()));
        }
        batch.weights.extend(weights.iter().map(|w| f64::from(*w)));
        batch.row_scales.push(row_scale);
    }
    batch.flush(&mut builder)?;
    builder.finish()
}

/// The factors, and where each lies among their numbers.
struct Factors<'a> {
    columns: &'a StructArray,
    triangles: &'a ListViewArray,
    values: &'a [f32],
}

/// The place of a factor: its first number, and how many there are.
type Place = (usize, usize);

impl<'a> Factors<'a> {
    fn try_new(array: &'a dyn Array, rows: usize) -> Result<Self, ComputeError> {
        if array.data_type() != &factor_type() {
            return Err(ComputeError::InvalidArgument(format!(
                "factor must be a factor as hessian_factor gives it, not {}",
                array.data_type()
            )));
        }
        if array.len() != rows {
            let got = array.len();
            return Err(ComputeError::InvalidArgument(format!("factor has {got} rows where weights has {rows}")));
        }
        let columns = array.as_struct();
        let triangles = columns.column(2).as_list_view::<i32>();
        let values = triangles.values().as_primitive::<Float32Type>();
        if values.null_count() > 0 {
            return Err(ComputeError::InvalidArgument("factor must not hold nulls".into()));
        }
        Ok(Self { columns, triangles, values: values.values() })
    }

    fn place(&self, row: usize) -> Option<Place> {
        let valid = self.columns.is_valid(row) && self.triangles.is_valid(row);
        valid.then(|| (self.triangles.value_offset(row) as usize, self.triangles.value_size(row) as usize))
    }

    fn factor(&self, (start, len): Place, length: usize, row: usize) -> Result<&'a [f32], ComputeError> {
        let factor = &self.values[start..start + len];
        match triangle_side(len) {
            Some(n) if n == length => {}
            n => {
                let got = n.unwrap_or(len);
                return Err(ComputeError::Length { row, what: "factor", got, expected: length });
            }
        }
        let sound =
            factor.iter().all(|u| u.is_finite()) && (0..length).all(|i| factor[triangle_row(i, length).start] > 0.0);
        if sound {
            Ok(factor)
        } else {
            Err(ComputeError::InvalidArgument(format!("factor of row {row} must be finite, its diagonal above 0")))
        }
    }
}

/// Rows that share a factor and options.
#[derive(Default)]
struct Batch<'a> {
    key: Option<(Place, QuantizeOptions, usize)>,
    factor: &'a [f32],
    weights: Vec<f64>,
    row_scales: Vec<f32>,
    scales: Vec<u8>,
    zero_points: Vec<u8>,
    codes: Vec<u8>,
    scratch: Vec<f32>,
}

impl Batch<'_> {
    /// Quantizes the rows, and appends them.
    fn flush(&mut self, builder: &mut QuantizedBuilder) -> Result<(), ComputeError> {
        let Some((_, options, length)) = self.key.filter(|_| !self.row_scales.is_empty()) else { return Ok(()) };
        let count = self.row_scales.len();
        let group_size = (options.group_size() as usize).min(length);
        let groups = length.div_ceil(group_size);
        for codes in [&mut self.scales, &mut self.zero_points] {
            codes.resize(count * groups, 0);
        }
        self.codes.resize(count * length, 0);
        self.scratch.resize(2 * group_size, 0.0);
        let mut rows = GptqRows {
            weights: &mut self.weights,
            row_scales: &self.row_scales,
            scales: &mut self.scales,
            zero_points: &mut self.zero_points,
            codes: &mut self.codes,
        };
        gptq_rows(&mut rows, self.factor, options.bits.get(), group_size, &mut self.scratch);
        for (r, row_scale) in self.row_scales.iter().enumerate() {
            let out = builder.push(RowShape::new(options.with_symmetric(false), length, true))?;
            *out.row_scale = *row_scale;
            let group_range = r * groups..(r + 1) * groups;
            out.scales.copy_from_slice(&self.scales[group_range.clone()]);
            if let Some(zero_points) = out.zero_points {
                zero_points.copy_from_slice(&self.zero_points[group_range]);
            }
            pack(&self.codes[r * length..(r + 1) * length], options.bits.get(), out.codes);
        }
        self.weights.clear();
        self.row_scales.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::{concat, take};
    use arrow_array::{Int32Array, ListArray, types::Float64Type};

    use super::*;
    use crate::{
        compute::{HessianAccumulator, hessian_factor, quantize},
        testing::{arrays::list, samples},
        types::Bits,
    };

    fn factor(n: usize, seed: u64) -> ArrayRef {
        let rows: Vec<_> = (0..2 * n as u64).map(|i| samples::normal(n, seed + i)).collect();
        let mut hessian = HessianAccumulator::default();
        hessian.update(&list(&rows.iter().map(|row| Some(&row[..])).collect::<Vec<_>>())).unwrap();
        hessian_factor(&hessian.finish().unwrap(), &[Some(0.01)]).unwrap()
    }

    fn options(bits: Bits) -> RowOptions {
        QuantizeOptions::new(bits).into()
    }

    #[test]
    fn rows_do_not_see_each_other_nor_how_they_are_batched() {
        let rows: Vec<_> = (0..40).map(|seed| samples::heavy(70, seed)).collect();
        let weights = list(&rows.iter().map(|row| Some(&row[..])).collect::<Vec<_>>());
        let two = concat(&[&factor(70, 1), &factor(70, 99)]).unwrap();
        let which = Int32Array::from_iter_values((0..40).map(|row| i32::from(row >= 20)));
        let factors = take(&two, &which, None).unwrap();
        for bits in Bits::ALL {
            let all = gptq(&weights, &factors, &options(bits)).unwrap();
            assert_ne!(&all, &quantize(&weights, &options(bits)).unwrap());
            for (start, len) in [(0, 1), (3, 20), (19, 2), (39, 1)] {
                let part = gptq(&weights.slice(start, len), &factors.slice(start, len), &options(bits)).unwrap();
                assert_eq!(&part, &all.slice(start, len));
            }
        }
    }

    #[test]
    fn nulls_zeros_and_extreme_rows_have_a_rule() {
        let row = samples::normal(8, 5);
        let tiny: Vec<f32> = row.iter().map(|w| w * 1e-42).collect();
        let weights = list(&[Some(&row), None, Some(&row), Some(&[0.0; 8]), Some(&tiny), Some(&row)]);
        let one = factor(8, 1);
        let factors =
            take(&one, &Int32Array::from(vec![Some(0), Some(0), None, Some(0), Some(0), Some(0)]), None).unwrap();
        let got = gptq(&weights, &factors, &options(Bits::Three)).unwrap();
        assert_eq!((0..6).map(|row| got.is_null(row)).collect::<Vec<_>>(), [false, true, true, false, false, false]);
        assert_eq!(&got.slice(0, 1), &got.slice(5, 1));
        let plain = quantize(&weights, &options(Bits::Three)).unwrap();
        assert_eq!(&got.slice(3, 2), &plain.slice(3, 2));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let weights = list(&[Some(&[1.0, 2.0])]);
        let message = |factors: &dyn Array| gptq(&weights, factors, &options(Bits::Four)).unwrap_err().to_string();
        assert_eq!(message(&factor(3, 1)), "row 0: factor has 3 elements where 2 are expected");
        assert!(message(&weights).starts_with("factor must be a factor as hessian_factor gives it"));
        let two = concat(&[&factor(2, 1), &factor(2, 1)]).unwrap();
        assert_eq!(message(&two), "factor has 2 rows where weights has 1");
        let bad = list(&[Some(&[1.0, f32::NAN])]);
        assert!(gptq(&bad, &factor(2, 1), &options(Bits::Four)).unwrap_err().to_string().contains("element 1 is NaN"));
        let hessian = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([1.0, 0.0, 1.0].map(Some))]);
        assert!(message(&hessian).starts_with("factor must be"));
    }
}
