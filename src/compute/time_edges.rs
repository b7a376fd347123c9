//! `time_edges`: where to cut time, so that one quantizer per group serves the activations of its timesteps.

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, ListArray, StringArray, cast::AsArray, types::Float64Type,
};

use super::{ComputeError, arrays::list::ListBuilder};
use crate::types::TimeMethod;

/// Timesteps that [`TimeMethod::Optimal`] takes: the search is quadratic in them.
const MOST_TIMESTEPS: usize = 4096;

/// The timesteps of one layer and the range of its activations at each: the state of the aggregate `time_edges`.
///
/// Rows come in any order. Rows of the same timestep are one, with the range that holds both. A row with a null is passed
/// over. Timesteps are of any unit and sign.
///
/// - [`TimeMethod::Uniform`] cuts the time from the first to the last timestep into groups of equal length,
/// - [`TimeMethod::Quantile`] into groups of as many timesteps,
/// - [`TimeMethod::Optimal`] into those with the least sum over all timesteps of the squared width of their group's
///   range, zero included: what a uniform quantizer of that range loses, at any number of bits. Found by dynamic
///   programming.
///
/// An edge lies half way between the two timesteps that it parts. There are `groups - 1` of them; fewer where a uniform
/// group would have no timestep. As many groups as timesteps, or more, part every timestep from the next.
///
/// ```
/// use arrow_array::{Array, Float64Array, cast::AsArray, types::Float64Type};
/// use arrow_quant::{compute::TimeEdgesAccumulator, types::TimeMethod};
///
/// let mut edges = TimeEdgesAccumulator::default();
/// let (t, lo) = (Float64Array::from(vec![0.0, 1.0, 2.0, 3.0]), Float64Array::from(vec![0.0; 4]));
/// edges.update(&t, &lo, &Float64Array::from(vec![9.0, 1.0, 1.0, 1.0]), 2, TimeMethod::Optimal)?;
/// let edges = edges.finish()?;
/// assert_eq!(edges.as_list::<i32>().value(0).as_primitive::<Float64Type>().values(), &[0.5][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct TimeEdgesAccumulator {
    cut: Option<(i64, TimeMethod)>,
    ranges: Vec<Range>,
}

/// The range of a layer's input at a timestep.
#[derive(Debug, Clone, Copy)]
struct Range {
    t: f64,
    lo: f64,
    hi: f64,
}

impl TimeEdgesAccumulator {
    /// Takes in timesteps and the range at each. `groups` is how many to make at most; it and the method are the same
    /// each time.
    ///
    /// # Errors
    /// Returns an error if `groups` is not positive or another than before, as the method; if a timestep is infinite or
    /// NaN; if a range is, or its `lo` exceeds its `hi`.
    pub fn update(
        &mut self,
        timestep: &Float64Array,
        lo: &Float64Array,
        hi: &Float64Array,
        groups: i64,
        method: TimeMethod,
    ) -> Result<(), ComputeError> {
        self.set(groups, method)?;
        for (row, ((t, lo), hi)) in timestep.iter().zip(lo).zip(hi).enumerate() {
            let (Some(t), Some(lo), Some(hi)) = (t, lo, hi) else { continue };
            let refuse = |problem: String| Err(ComputeError::InvalidArgument(format!("row {row}: {problem}")));
            if !t.is_finite() {
                return refuse(format!("timesteps must be finite, not {t}"));
            }
            if !(lo.is_finite() && hi.is_finite() && lo <= hi) {
                return refuse(format!("at timestep {t}, lo must not exceed hi, both finite, not {lo} and {hi}"));
            }
            // One zero only: timesteps are compared.
            self.ranges.push(Range { t: t + 0.0, lo, hi });
        }
        Ok(())
    }

    fn set(&mut self, groups: i64, method: TimeMethod) -> Result<(), ComputeError> {
        if groups < 1 {
            return Err(ComputeError::InvalidArgument(format!("groups must be 1 or more, not {groups}")));
        }
        match self.cut {
            Some(cut) if cut != (groups, method) => Err(ComputeError::InvalidArgument(format!(
                "groups and method must be the same in every row, not {} '{}' and {groups} '{method}'",
                cut.0, cut.1
            ))),
            _ => {
                self.cut = Some((groups, method));
                Ok(())
            }
        }
    }

    /// Returns the state as arrays of one row: timestep, lo and hi of each row one after the other, groups and method.
    ///
    /// # Errors
    /// Returns an error if there are more rows than a list array holds.
    pub fn state(&self) -> Result<(ArrayRef, Int64Array, StringArray), ComputeError> {
        let mut builder = ListBuilder::<Float64Type>::with_capacity(1, 3 * self.ranges.len());
        let values = builder.push(3 * self.ranges.len())?;
        for (out, range) in values.chunks_exact_mut(3).zip(&self.ranges) {
            out.copy_from_slice(&[range.t, range.lo, range.hi]);
        }
        let groups = Int64Array::from(vec![self.cut.map(|cut| cut.0)]);
        let method = StringArray::from(vec![self.cut.map(|cut| cut.1.name())]);
        Ok((builder.finish()?, groups, method))
    }

    /// Takes in the [`state`](Self::state) of other accumulators.
    ///
    /// # Errors
    /// Returns an error if it is no such state, or one with other groups or another method.
    pub fn merge(
        &mut self,
        ranges: &ListArray,
        groups: &Int64Array,
        methods: &StringArray,
    ) -> Result<(), ComputeError> {
        for row in 0..ranges.len() {
            if groups.is_null(row) || methods.is_null(row) {
                continue;
            }
            self.set(groups.value(row), methods.value(row).parse()?)?;
            let values = ranges.value(row);
            let values = values.as_primitive_opt::<Float64Type>().filter(|values| values.len() % 3 == 0);
            let values = values.ok_or_else(|| ComputeError::InvalidArgument("not a state of time_edges".into()))?;
            self.ranges.extend(values.values().chunks_exact(3).map(|range| Range {
                t: range[0],
                lo: range[1],
                hi: range[2],
            }));
        }
        Ok(())
    }

    /// Returns the edges, ascending: a `List<Float64>` of one row, null when no row was seen.
    ///
    /// # Errors
    /// Returns an error if there are too many timesteps for [`TimeMethod::Optimal`].
    pub fn finish(&self) -> Result<ArrayRef, ComputeError> {
        let mut builder = ListBuilder::<Float64Type>::with_capacity(1, 0);
        match self.cut {
            Some((groups, method)) if !self.ranges.is_empty() => {
                let ranges = self.by_time();
                let groups = usize::try_from(groups).unwrap_or(usize::MAX).min(ranges.len());
                let starts = match method {
                    _ if groups == ranges.len() => (1..groups).collect(),
                    TimeMethod::Uniform => uniform(&ranges, groups),
                    TimeMethod::Quantile => (1..groups).map(|group| group * ranges.len() / groups).collect(),
                    TimeMethod::Optimal => optimal(&ranges, groups)?,
                };
                let edges: Vec<f64> = starts.into_iter().map(|at| between(ranges[at - 1].t, ranges[at].t)).collect();
                builder.push(edges.len())?.copy_from_slice(&edges);
            }
            _ => builder.push_null(),
        }
        builder.finish()
    }

    /// Returns one range per timestep, in the order of time.
    fn by_time(&self) -> Vec<Range> {
        let mut sorted = self.ranges.clone();
        sorted.sort_by(|a, b| a.t.total_cmp(&b.t));
        sorted.dedup_by(|next, kept| {
            let same = next.t == kept.t;
            if same {
                (kept.lo, kept.hi) = (kept.lo.min(next.lo), kept.hi.max(next.hi));
            }
            same
        });
        sorted
    }

    /// Returns the bytes that the state takes.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.ranges.capacity() * size_of::<Range>()
    }
}

/// Returns the middle, but never the earlier one: a timestep on an edge is of the later group.
fn between(earlier: f64, later: f64) -> f64 {
    let middle = earlier.midpoint(later);
    if middle > earlier && middle < later { middle } else { later }
}

/// Returns the first timestep of every group but the first.
fn uniform(ranges: &[Range], groups: usize) -> Vec<usize> {
    let (first, last) = (ranges[0].t, ranges[ranges.len() - 1].t);
    let mut starts: Vec<usize> = (1..groups)
        .map(|group| {
            let share = group as f64 / groups as f64;
            let edge = first * (1.0 - share) + last * share;
            ranges.partition_point(|range| range.t < edge)
        })
        .filter(|start| (1..ranges.len()).contains(start))
        .collect();
    starts.dedup();
    starts
}

/// Returns the first timestep of every group but the first, by dynamic programming: `best[j]` is the least cost of the
/// first `j` timesteps in so many groups.
fn optimal(ranges: &[Range], groups: usize) -> Result<Vec<usize>, ComputeError> {
    let count = ranges.len();
    if count > MOST_TIMESTEPS {
        return Err(ComputeError::InvalidArgument(format!(
            "optimal edges are searched among up to {MOST_TIMESTEPS} timesteps, not {count}; 'quantile' takes any number"
        )));
    }
    // Of magnitude 1, so that no square overflows.
    let largest = ranges.iter().fold(f64::MIN_POSITIVE, |most, range| most.max(-range.lo).max(range.hi));
    let bounds: Vec<_> =
        ranges.iter().map(|range| (range.lo.min(0.0) / largest, range.hi.max(0.0) / largest)).collect();
    let mut best = vec![f64::INFINITY; count + 1];
    best[0] = 0.0;
    let mut last_starts = Vec::with_capacity(groups);
    for group in 1..=groups {
        let mut next = vec![f64::INFINITY; count + 1];
        let mut starts = vec![0; count + 1];
        for end in group..=count {
            let (mut lo, mut hi) = (0f64, 0f64);
            for start in (group - 1..end).rev() {
                (lo, hi) = (lo.min(bounds[start].0), hi.max(bounds[start].1));
                let cost = (end - start) as f64 * ((hi - lo) * (hi - lo));
                // An earlier start makes the group dearer still.
                if cost > next[end] {
                    break;
                }
                if best[start] + cost < next[end] {
                    (next[end], starts[end]) = (best[start] + cost, start);
                }
            }
        }
        best = next;
        last_starts.push(starts);
    }
    let mut end = count;
    let mut starts: Vec<usize> = last_starts
        .iter()
        .skip(1)
        .rev()
        .map(|starts| {
            end = starts[end];
            end
        })
        .collect();
    starts.reverse();
    Ok(starts)
}

#[cfg(test)]
mod tests;
