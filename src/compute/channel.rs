//! Elementwise reductions over the rows of one tensor: the state of the `channel_*` aggregates.

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};

use super::{
    ComputeError,
    arrays::{
        list::ListBuilder,
        rows::{Rows, finite_absmax},
    },
};
use crate::kernels::channel::{channel_absmax, channel_max, channel_min, channel_sum_squares};

/// The statistic that is kept of each input channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelStatistic {
    /// The largest magnitude.
    Absmax,
    /// The least value.
    Min,
    /// The largest value.
    Max,
    /// The sum of squares, in f64.
    SumSquares,
}

#[derive(Debug, Clone)]
enum State {
    Empty,
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Reduces rows element by element. Accumulators of parts merge into that of the whole; for sums, in the order of the
/// merging.
///
/// Rows are of one length; null rows are passed over.
///
/// ```
/// use arrow_array::{Array, ListArray, cast::AsArray, types::Float32Type};
/// use arrow_quant::compute::{ChannelAccumulator, ChannelStatistic};
///
/// let row = |row: [f32; 2]| ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.map(Some))]);
/// let mut absmax = ChannelAccumulator::new(ChannelStatistic::Absmax);
/// absmax.update(&row([1.0, -2.0]))?;
/// absmax.update(&row([-3.0, 1.0]))?;
/// let result = absmax.finish()?;
/// assert_eq!(result.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &[3.0, 2.0][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChannelAccumulator {
    statistic: ChannelStatistic,
    state: State,
}

impl ChannelAccumulator {
    /// Returns an accumulator that has seen no row.
    pub fn new(statistic: ChannelStatistic) -> Self {
        Self { statistic, state: State::Empty }
    }

    /// Returns the number of channels, once a row was seen.
    pub fn width(&self) -> Option<usize> {
        match &self.state {
            State::Empty => None,
            State::F32(values) => Some(values.len()),
            State::F64(values) => Some(values.len()),
        }
    }

    /// Returns the bytes that the state takes.
    pub fn size(&self) -> usize {
        let element = if self.statistic == ChannelStatistic::SumSquares { size_of::<f64>() } else { size_of::<f32>() };
        size_of::<Self>() + self.width().unwrap_or(0) * element
    }

    /// Takes in the rows of a list array of floats.
    ///
    /// # Errors
    /// Returns an error if `rows` is of another type, if a row has another length than those before, or if an element
    /// is null, infinite or NaN.
    pub fn update(&mut self, rows: &dyn Array) -> Result<(), ComputeError> {
        let rows = Rows::try_new(rows, "the rows to reduce")?;
        let mut scratch = Vec::new();
        for row in 0..rows.len() {
            if let Some(values) = rows.row(row, &mut scratch)? {
                finite_absmax(values, row)?;
                self.row(values, row)?;
            }
        }
        Ok(())
    }

    /// Takes in the states of other accumulators of the same statistic, as [`finish`](Self::finish) gives them.
    ///
    /// # Errors
    /// Returns an error if `states` is of another type or the widths differ.
    pub fn merge(&mut self, states: &dyn Array) -> Result<(), ComputeError> {
        if self.statistic != ChannelStatistic::SumSquares {
            // The least of leasts and the largest of largest.
            return self.update(states);
        }
        let lists = states.as_list_opt::<i32>().ok_or_else(|| sums_expected(states))?;
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            let sums = lists.value(row);
            let sums = sums.as_primitive_opt::<Float64Type>().ok_or_else(|| sums_expected(states))?;
            match &mut self.state {
                State::F64(totals) => {
                    check_width(totals.len(), sums.len(), row)?;
                    for (total, sum) in totals.iter_mut().zip(sums.values()) {
                        *total += sum;
                    }
                }
                state => *state = State::F64(sums.values().to_vec()),
            }
        }
        Ok(())
    }

    /// Returns the result: an array of one row, null when no row was seen. `List<Float32>`, for
    /// [`ChannelStatistic::SumSquares`] `List<Float64>`.
    ///
    /// # Errors
    /// Returns an error if there are more channels than a list array holds.
    pub fn finish(&self) -> Result<ArrayRef, ComputeError> {
        if self.statistic == ChannelStatistic::SumSquares {
            let mut builder = ListBuilder::<Float64Type>::with_capacity(1, 0);
            match &self.state {
                State::F64(values) => builder.push(values.len())?.copy_from_slice(values),
                _ => builder.push_null(),
            }
            return builder.finish();
        }
        let mut builder = ListBuilder::<Float32Type>::with_capacity(1, 0);
        match &self.state {
            State::F32(values) => builder.push(values.len())?.copy_from_slice(values),
            _ => builder.push_null(),
        }
        builder.finish()
    }

    fn row(&mut self, values: &[f32], row: usize) -> Result<(), ComputeError> {
        if let Some(width) = self.width() {
            check_width(width, values.len(), row)?;
        }
        let width = values.len();
        match (self.statistic, &mut self.state) {
            (ChannelStatistic::Absmax, State::F32(state)) => channel_absmax(values, state),
            (ChannelStatistic::Min, State::F32(state)) => channel_min(values, state),
            (ChannelStatistic::Max, State::F32(state)) => channel_max(values, state),
            (ChannelStatistic::SumSquares, State::F64(state)) => channel_sum_squares(values, state),
            (ChannelStatistic::SumSquares, state) => {
                let mut sums = vec![0.0; width];
                channel_sum_squares(values, &mut sums);
                *state = State::F64(sums);
            }
            (ChannelStatistic::Absmax, state) => *state = State::F32(values.iter().map(|x| x.abs()).collect()),
            (ChannelStatistic::Min | ChannelStatistic::Max, state) => *state = State::F32(values.to_vec()),
        }
        Ok(())
    }
}

fn check_width(expected: usize, got: usize, row: usize) -> Result<(), ComputeError> {
    if expected == got { Ok(()) } else { Err(ComputeError::Length { row, what: "the row", got, expected }) }
}

fn sums_expected(got: &dyn Array) -> ComputeError {
    ComputeError::InvalidArgument(format!("the sums to merge must be List<Float64>, not {}", got.data_type()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{arrays::list, samples};

    #[test]
    fn merged_parts_are_the_whole() {
        let rows: Vec<_> = (0..9).map(|seed| samples::heavy(37, seed)).collect();
        let rows: Vec<_> = rows.iter().map(|row| Some(&row[..])).chain([None]).collect();
        for statistic in
            [ChannelStatistic::Absmax, ChannelStatistic::Min, ChannelStatistic::Max, ChannelStatistic::SumSquares]
        {
            let mut whole = ChannelAccumulator::new(statistic);
            assert!(whole.finish().unwrap().is_null(0));
            whole.update(&list(&rows)).unwrap();
            let mut merged = ChannelAccumulator::new(statistic);
            for part in rows.chunks(1) {
                let mut accumulator = ChannelAccumulator::new(statistic);
                accumulator.update(&list(part)).unwrap();
                merged.merge(&accumulator.finish().unwrap()).unwrap();
            }
            assert_eq!(&merged.finish().unwrap(), &whole.finish().unwrap(), "{statistic:?}");
            assert!(whole.size() > 37 * 4);
        }
    }

    #[test]
    fn rows_of_another_width_are_an_error() {
        let mut accumulator = ChannelAccumulator::new(ChannelStatistic::Max);
        let error = accumulator.update(&list(&[Some(&[1.0]), Some(&[1.0, 2.0])])).unwrap_err();
        assert_eq!(error.to_string(), "row 1: the row has 2 elements where 1 are expected");
        let mut sums = ChannelAccumulator::new(ChannelStatistic::SumSquares);
        assert!(sums.merge(&list(&[Some(&[1.0])])).is_err());
        assert!(sums.update(&list(&[Some(&[f32::NAN])])).is_err());
    }
}
