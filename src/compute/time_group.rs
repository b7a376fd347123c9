//! `time_group`: the group that a timestep belongs to.

use arrow_array::cast::AsArray;
use arrow_array::{Array, Float64Array, Int32Array, ListArray, builder::Int32Builder, types::Float64Type};

use super::ComputeError;

/// Returns the number of the group of each timestep, from 0: how many of `edges` are at most `t`.
///
/// `edges` is `List<Float64>`, ascending, as [`TimeEdgesAccumulator`](super::TimeEdgesAccumulator) gives it, with as many
/// rows as `t`. Timesteps below the first edge are of the first group, those from the last edge on of the last, however
/// far from what was calibrated. Null in either argument gives null.
///
/// # Errors
/// Returns an error if the rows differ in number, if a timestep is NaN, or if edges are null, NaN or not ascending.
///
/// # Example
/// ```
/// use arrow_array::{Float64Array, ListArray, types::Float64Type};
///
/// let edges = [Some([Some(10.0), Some(20.0)]), Some([Some(10.0), Some(20.0)])];
/// let edges = ListArray::from_iter_primitive::<Float64Type, _, _>(edges);
/// let groups = arrow_quant::compute::time_group(&Float64Array::from(vec![9.5, 20.0]), &edges)?;
/// assert_eq!(groups.values(), &[0, 2][..]);
/// # Ok::<(), arrow_quant::compute::ComputeError>(())
/// ```
pub fn time_group(t: &Float64Array, edges: &ListArray) -> Result<Int32Array, ComputeError> {
    if t.len() != edges.len() {
        let (t, edges) = (t.len(), edges.len());
        return Err(ComputeError::InvalidArgument(format!("t has {t} rows, edges {edges}")));
    }
    let values = edges
        .values()
        .as_primitive_opt::<Float64Type>()
        .ok_or_else(|| ComputeError::InvalidArgument("edges must be a list of Float64".into()))?;
    let mut groups = Int32Builder::with_capacity(t.len());
    for row in 0..t.len() {
        if t.is_null(row) || edges.is_null(row) {
            groups.append_null();
            continue;
        }
        let (start, end) = (edges.value_offsets()[row] as usize, edges.value_offsets()[row + 1] as usize);
        if let Some(element) = (start..end).find(|element| values.is_null(*element)) {
            return Err(ComputeError::NullElement { row, element: element - start });
        }
        let t = t.value(row);
        if t.is_nan() {
            return Err(ComputeError::InvalidArgument(format!("row {row}: the timestep is NaN")));
        }
        let edges = &values.values()[start..end];
        if edges.iter().any(|edge| edge.is_nan()) || edges.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err(ComputeError::InvalidArgument(format!("row {row}: the edges must ascend and not be NaN")));
        }
        groups.append_value(edges.partition_point(|edge| *edge <= t) as i32);
    }
    Ok(groups.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(t: Option<f64>, edges: Option<Vec<Option<f64>>>) -> Result<Option<i32>, ComputeError> {
        let groups =
            time_group(&Float64Array::from(vec![t]), &ListArray::from_iter_primitive::<Float64Type, _, _>([edges]))?;
        Ok(groups.is_valid(0).then(|| groups.value(0)))
    }

    #[test]
    fn a_timestep_on_an_edge_is_of_the_later_group_and_far_ones_of_the_outer() {
        let edges = || Some(vec![Some(1.0), Some(2.5)]);
        for (t, expected) in [(f64::NEG_INFINITY, 0), (0.99, 0), (1.0, 1), (2.4, 1), (2.5, 2), (f64::INFINITY, 2)] {
            assert_eq!(group(Some(t), edges()).unwrap(), Some(expected), "{t}");
        }
        assert_eq!(group(Some(7.0), Some(vec![])).unwrap(), Some(0));
        assert_eq!((group(None, edges()).unwrap(), group(Some(1.0), None).unwrap()), (None, None));
    }

    #[test]
    fn what_has_no_order_is_refused() {
        for (t, edges) in [
            (f64::NAN, vec![Some(1.0)]),
            (1.0, vec![Some(2.0), Some(1.0)]),
            (1.0, vec![Some(f64::NAN)]),
            (1.0, vec![None]),
        ] {
            assert!(group(Some(t), Some(edges)).is_err());
        }
    }
}
