//! `hessian`: the mean outer product of a layer's inputs, row by row.

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        rows::{Rows, finite_absmax},
    },
};
use crate::kernels::{
    hessian::hessian,
    triangle::{triangle_len, triangle_side},
};

/// Rows that are added at a time: they stay in the cache while the sums pass over them once.
const ROWS: usize = 64;

/// Adds up `x[i] * x[j]` over rows `x`: the inputs of one layer, a token or pixel each. The mean of these is, up to a
/// factor that changes nothing, the Hessian of the squared error of the layer's output by its weights.
///
/// Rows are of one length; null rows are passed over. How rows are parted into calls of [`update`](Self::update) changes
/// nothing; accumulators of parts merge into that of the whole in the order of the merging.
///
/// ```
/// use arrow_array::{ListArray, cast::AsArray, types::{Float32Type, Float64Type}};
/// use arrow_quant::compute::HessianAccumulator;
///
/// let row = |row: [f32; 2]| ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.map(Some))]);
/// let mut accumulator = HessianAccumulator::default();
/// accumulator.update(&row([1.0, 2.0]))?;
/// accumulator.update(&row([3.0, -1.0]))?;
/// let mean = accumulator.finish()?;
/// assert_eq!(mean.as_list::<i32>().value(0).as_primitive::<Float64Type>().values(), &[5.0, -0.5, 2.5][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct HessianAccumulator {
    rows: u64,
    width: usize,
    sums: Vec<f64>,
}

impl HessianAccumulator {
    /// Returns the bytes that the state takes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.sums.len() * size_of::<f64>()
    }

    /// Takes in the rows of a list array of floats.
    ///
    /// # Errors
    /// Returns an error if `rows` is of another type, if a row has another length than those before, or if an element
    /// is null, infinite or NaN.
    pub fn update(&mut self, rows: &dyn Array) -> Result<(), ComputeError> {
        let rows = Rows::try_new(rows, "the rows of a Hessian")?;
        let (mut widened, mut gathered) = (Vec::new(), Vec::new());
        for row in 0..rows.len() {
            let Some(values) = rows.row(row, &mut widened)? else { continue };
            finite_absmax(values, row)?;
            self.begin(values.len(), row)?;
            self.rows += 1;
            gathered.extend_from_slice(values);
            if gathered.len() >= ROWS * self.width.max(1) {
                hessian(&gathered, self.width, &mut self.sums);
                gathered.clear();
            }
        }
        if !gathered.is_empty() {
            hessian(&gathered, self.width, &mut self.sums);
        }
        Ok(())
    }

    /// Takes in the state of another accumulator.
    ///
    /// # Errors
    /// Returns an error if the parts are not those of [`state`](Self::state), or the widths differ.
    pub fn merge(&mut self, counts: &dyn Array, sums: &dyn Array) -> Result<(), ComputeError> {
        let expected = || ComputeError::InvalidArgument("the state of a Hessian must be a count and sums".into());
        let counts = counts.as_primitive_opt::<Int64Type>().ok_or_else(expected)?;
        let lists = sums.as_list_opt::<i32>().ok_or_else(expected)?;
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row) && counts.is_valid(*row)) {
            let sums = lists.value(row);
            let sums = sums.as_primitive_opt::<Float64Type>().ok_or_else(expected)?.values();
            self.begin(triangle_side(sums.len()).ok_or_else(expected)?, row)?;
            self.rows += counts.value(row) as u64;
            for (total, sum) in self.sums.iter_mut().zip(sums) {
                *total += sum;
            }
        }
        Ok(())
    }

    /// Returns the number of rows, and their sums: a `List<Float64>` of one row, null when there was none.
    ///
    /// # Errors
    /// Returns an error if there are more numbers than a list array holds.
    pub fn state(&self) -> Result<(i64, ArrayRef), ComputeError> {
        Ok((self.rows as i64, self.list(1.0)?))
    }

    /// Returns the mean: a `List<Float64>` of one row, the upper triangle row after row; null when there was no row.
    ///
    /// # Errors
    /// Returns an error if there are more numbers than a list array holds.
    pub fn finish(&self) -> Result<ArrayRef, ComputeError> {
        self.list(self.rows as f64)
    }

    fn begin(&mut self, width: usize, row: usize) -> Result<(), ComputeError> {
        if self.rows == 0 && self.sums.is_empty() {
            let too_wide = ComputeError::Overflow { what: "the channels of a Hessian", limit: 65_535 };
            let length = triangle_len(width).filter(|length| i32::try_from(*length).is_ok()).ok_or(too_wide)?;
            (self.width, self.sums) = (width, vec![0.0; length]);
        } else if width != self.width {
            return Err(ComputeError::Length { row, what: "the row", got: width, expected: self.width });
        }
        Ok(())
    }

    fn list(&self, divisor: f64) -> Result<ArrayRef, ComputeError> {
        let mut builder = ListBuilder::<Float64Type>::with_capacity(1, self.sums.len());
        if self.rows == 0 {
            builder.push_null();
        } else {
            for (place, sum) in builder.push(self.sums.len())?.iter_mut().zip(&self.sums) {
                *place = sum / divisor;
            }
        }
        builder.finish()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;

    use super::*;
    use crate::testing::{arrays::list, samples};

    #[test]
    fn merged_parts_are_the_whole_and_batches_do_not_matter() {
        let rows: Vec<_> = (0..150).map(|seed| samples::normal(37, seed)).collect();
        let rows: Vec<_> = rows.iter().map(|row| Some(&row[..])).chain([None]).collect();
        let mut whole = HessianAccumulator::default();
        assert!(whole.finish().unwrap().is_null(0));
        whole.update(&list(&rows)).unwrap();
        for size in [1, 7, 100] {
            let mut batches = HessianAccumulator::default();
            let mut merged = HessianAccumulator::default();
            for part in rows.chunks(size) {
                batches.update(&list(part)).unwrap();
                let mut one = HessianAccumulator::default();
                one.update(&list(part)).unwrap();
                let (count, sums) = one.state().unwrap();
                merged.merge(&Int64Array::from(vec![count]), &sums).unwrap();
            }
            assert_eq!(&batches.finish().unwrap(), &whole.finish().unwrap());
            let (a, b) = (merged.finish().unwrap(), whole.finish().unwrap());
            let values =
                |list: &ArrayRef| list.as_list::<i32>().value(0).as_primitive::<Float64Type>().values().to_vec();
            for (a, b) in values(&a).iter().zip(values(&b)) {
                assert!((a - b).abs() < 1e-12, "{a} {b}");
            }
        }
        assert!(whole.size() >= 37 * 38 / 2 * 8);
    }

    #[test]
    fn rows_that_do_not_fit_are_an_error() {
        let mut accumulator = HessianAccumulator::default();
        let error = accumulator.update(&list(&[Some(&[1.0]), Some(&[1.0, 2.0])])).unwrap_err();
        assert_eq!(error.to_string(), "row 1: the row has 2 elements where 1 are expected");
        assert!(HessianAccumulator::default().update(&list(&[Some(&[f32::NAN])])).is_err());
        let error = HessianAccumulator::default().update(&list(&[Some(&vec![0.0; 70_000])])).unwrap_err();
        assert!(error.to_string().contains("65535"), "{error}");
    }
}
