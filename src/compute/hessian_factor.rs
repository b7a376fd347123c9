//! `hessian_factor`: the factor of the damped inverse of a Hessian.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Float32Array, Float64Array, Int64Array, ListViewArray, StructArray, cast::AsArray,
    types::Float64Type,
};
use arrow_buffer::NullBuffer;
use arrow_schema::Field;

use super::ComputeError;
use crate::{
    kernels::{
        cholesky::{BLOCK, cholesky, invert},
        triangle::{triangle_row, triangle_side},
    },
    types::factor::{factor_fields, hessian_type},
};

/// The damping of the paper.
pub const DAMPING: f64 = 0.01;

/// The number of times that the damping is tried again, ten times as strong each time.
const TRIES: usize = 4;

/// One factor.
struct Factor {
    damping: f64,
    dead: i64,
    triangle: Vec<f32>,
}

/// Returns the upper triangular `U` with `U^T U = (H + damping * mean(diag H))^-1`, for each Hessian `H`
/// (arXiv:2210.17323).
///
/// `hessians` is a `List<Float64>` of upper triangles, as [`HessianAccumulator`](super::HessianAccumulator) gives them,
/// `damping` a number above 0 for each row. The result is of
/// [`factor_type`](crate::types::factor::factor_type). A channel that was zero throughout counts as the mean channel. Where
/// `H` is not positive definite with so much damping, ten times as much is tried, up to a thousand times, and what was
/// needed stands in the result; where that does not do either, the result is null. Null on either side gives null.
///
/// # Errors
/// Returns an error if `hessians` is of another type, a row's length is no triangle's, a number is infinite or NaN, or
/// a damping is not above 0.
pub fn hessian_factor(hessians: &dyn Array, damping: &[Option<f64>]) -> Result<ArrayRef, ComputeError> {
    if hessians.data_type() != &hessian_type() {
        let got = hessians.data_type();
        return Err(ComputeError::InvalidArgument(format!("hessian must be List<Float64>, not {got}")));
    }
    if damping.len() != hessians.len() {
        let (got, rows) = (damping.len(), hessians.len());
        return Err(ComputeError::InvalidArgument(format!("damping has {got} rows where hessian has {rows}")));
    }
    let lists = hessians.as_list::<i32>();
    let mut factors = Vec::with_capacity(lists.len());
    for (row, damping) in damping.iter().enumerate() {
        factors.push(match damping.filter(|_| lists.is_valid(row)) {
            Some(damping) => one(lists.value(row).as_primitive::<Float64Type>(), damping, row)?,
            None => None,
        });
    }
    build(&factors)
}

fn one(hessian: &Float64Array, damping: f64, row: usize) -> Result<Option<Factor>, ComputeError> {
    if !(damping > 0.0 && damping.is_finite()) {
        return Err(ComputeError::InvalidArgument(format!("damping must be above 0, not {damping}")));
    }
    if let Some(element) = (0..hessian.len()).find(|i| hessian.is_null(*i)) {
        return Err(ComputeError::NullElement { row, element });
    }
    let values = hessian.values();
    if let Some(element) = values.iter().position(|value| !value.is_finite()) {
        return Err(ComputeError::NonFinite { row, element, value: values[element] as f32 });
    }
    let n = triangle_side(values.len()).ok_or_else(|| {
        let length = values.len();
        ComputeError::InvalidArgument(format!("hessian has {length} numbers in row {row}, which is no upper triangle"))
    })?;
    let diagonal = |i: usize| values[triangle_row(i, n).start];
    let dead: Vec<usize> = (0..n).filter(|i| diagonal(*i) == 0.0).collect();
    let alive = n - dead.len();
    let mean = if alive == 0 { 1.0 } else { (0..n).map(diagonal).sum::<f64>() / alive as f64 };
    let mut scratch = vec![0.0; BLOCK * n];
    let mut damping = damping;
    for _ in 0..TRIES {
        let mut triangle = values.to_vec();
        for i in &dead {
            triangle[triangle_row(*i, n).start] = mean;
        }
        for i in 0..n {
            triangle[triangle_row(i, n).start] += damping * mean;
        }
        if cholesky(&mut triangle, n) {
            invert(&mut triangle, n, &mut scratch);
            let triangle: Vec<f32> = triangle.into_iter().map(|value| value as f32).collect();
            let positive = (0..n).all(|i| triangle[triangle_row(i, n).start] > 0.0);
            if positive && triangle.iter().all(|value| value.is_finite()) {
                return Ok(Some(Factor { damping, dead: dead.len() as i64, triangle }));
            }
        }
        damping *= 10.0;
    }
    Ok(None)
}

fn build(factors: &[Option<Factor>]) -> Result<ArrayRef, ComputeError> {
    let too_much = || ComputeError::Overflow { what: "the factors of one batch", limit: i32::MAX as usize };
    let (mut offsets, mut sizes, mut values) = (Vec::new(), Vec::new(), Vec::<f32>::new());
    for factor in factors {
        let triangle = factor.as_ref().map_or(&[][..], |factor| &factor.triangle);
        offsets.push(i32::try_from(values.len()).map_err(|_| too_much())?);
        sizes.push(i32::try_from(triangle.len()).map_err(|_| too_much())?);
        values.extend_from_slice(triangle);
    }
    let nulls: NullBuffer = factors.iter().map(Option::is_some).collect();
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let field = Arc::new(Field::new_list_field(arrow_schema::DataType::Float32, true));
    let values = Arc::new(Float32Array::from(values));
    let triangles = ListViewArray::try_new(field, offsets.into(), sizes.into(), values, nulls.clone())?;
    let damping: Float64Array = factors.iter().map(|factor| factor.as_ref().map(|factor| factor.damping)).collect();
    let dead: Int64Array = factors.iter().map(|factor| factor.as_ref().map(|factor| factor.dead)).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(damping), Arc::new(dead), Arc::new(triangles)];
    Ok(Arc::new(StructArray::try_new(factor_fields(), columns, nulls)?))
}

#[cfg(test)]
mod tests {
    use arrow_array::ListArray;

    use super::*;

    fn factor(triangle: &[f64], damping: f64) -> Result<ArrayRef, ComputeError> {
        let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(triangle.iter().copied().map(Some))]);
        hessian_factor(&list, &[Some(damping)])
    }

    fn parts(factor: &ArrayRef) -> (f64, i64, Vec<f32>) {
        let columns = factor.as_struct();
        let triangle = columns.column(2).as_list_view::<i32>().value(0);
        (
            columns.column(0).as_primitive::<Float64Type>().value(0),
            columns.column(1).as_primitive::<arrow_array::types::Int64Type>().value(0),
            triangle.as_primitive::<arrow_array::types::Float32Type>().values().to_vec(),
        )
    }

    #[test]
    fn values_are_those_worked_out_by_hand() {
        // [[1, 1], [1, 1]] and half its mean diagonal: [[1.5, 1], [1, 1.5]], its inverse [[1.2, -0.8], [-0.8, 1.2]].
        let (damping, dead, u) = parts(&factor(&[1.0, 1.0, 1.0], 0.5).unwrap());
        assert_eq!((damping, dead), (0.5, 0));
        for (got, want) in u.iter().zip([1.2f64.sqrt(), -0.8 / 1.2f64.sqrt(), (1.2f64 - 0.64 / 1.2).sqrt()]) {
            assert!((f64::from(*got) - want).abs() < 1e-6, "{got} {want}");
        }
    }

    #[test]
    fn dead_channels_count_as_the_mean_and_are_counted() {
        let (_, dead, u) = parts(&factor(&[4.0, 0.0, 0.0, 0.0, 0.0, 2.0], 1.0).unwrap());
        assert_eq!(dead, 1);
        let want = [7.0f64, 6.0, 5.0].map(|h| (1.0 / h).sqrt() as f32);
        assert_eq!([u[0], u[3], u[5]], want);
        assert_eq!(parts(&factor(&[0.0, 0.0, 0.0], 0.25).unwrap()).1, 2);
    }

    #[test]
    fn damping_rises_until_it_does_or_the_factor_is_null() {
        // Eigenvalues 1 + 1.5 and 1 - 1.5: it takes a damping above 0.5.
        assert!((parts(&factor(&[1.0, 1.5, 1.0], 0.01).unwrap()).0 - 1.0).abs() < 1e-12);
        assert!(factor(&[1.0, 100.0, 1.0], 0.01).unwrap().is_null(0));
    }

    #[test]
    fn what_is_no_hessian_is_refused() {
        let message = |result: Result<ArrayRef, ComputeError>| result.unwrap_err().to_string();
        assert!(message(factor(&[1.0, 0.0], 0.01)).contains("2 numbers in row 0, which is no upper triangle"));
        assert!(message(factor(&[f64::NAN], 0.01)).contains("row 0, element 0 is NaN"));
        for damping in [0.0, -1.0, f64::NAN] {
            assert!(message(factor(&[1.0], damping)).starts_with("damping must be above 0"));
        }
        assert!(message(hessian_factor(&Float64Array::from(vec![1.0]), &[None])).contains("List<Float64>"));
    }
}
