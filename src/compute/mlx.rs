//! Rows of MLX: the shares of a row one after the other.

use super::{
    ComputeError,
    arrays::{
        floats::{narrow, round, widen},
        rows::finite_absmax,
    },
};
use crate::{
    kernels::{
        extreme,
        mlx::{
            add_biases, decode_e2m1, decode_e4m3, encode_codes, encode_e2m1, encode_e4m3, multiply_codes, range, search,
        },
    },
    types::{Float, Method, Mlx, MlxType},
};

/// The buffers of a row: weights of a moderate size, scales and biases.
pub(super) type Buffers<'a> = (&'a mut Vec<f32>, &'a mut Vec<f32>, &'a mut Vec<f32>);

/// Returns the largest magnitude that a layer holds.
const fn largest(mlx: Mlx) -> f32 {
    match (mlx.kind, mlx.float) {
        // The largest scale is 448, the largest code 6.
        (MlxType::Nvfp4, _) => 2688.0,
        (_, Float::F16) => 65504.0,
        // The range of a group is finite.
        _ => 1e38,
    }
}

/// Cuts the bytes of a row into its shares.
fn cut(mlx: Mlx, length: usize, bytes: usize) -> (usize, usize) {
    let shares = mlx.shares(length).unwrap_or_default();
    let share = |number: usize| shares.get(number).copied().unwrap_or_default();
    let codes = share(0).min(bytes);
    (codes, share(1).min(bytes - codes))
}

/// Encodes a row into `out`, which has the bytes of its shares; `row` is its number in errors. `importance` as for
/// [`encode_as_weighted`](super::encode_as_weighted).
///
/// # Errors
/// Returns an error if a weight is not finite or too large.
pub(super) fn encode(
    mlx: Mlx,
    weights: &[f32],
    importance: Option<&[f32]>,
    row: usize,
    (rescaled, scales, biases): Buffers<'_>,
    out: &mut [u8],
) -> Result<(), ComputeError> {
    let (absmax, largest) = (finite_absmax(weights, row)?, largest(mlx));
    if absmax > largest
        && let Some(element) = weights.iter().position(|weight| weight.abs() > largest)
    {
        return Err(ComputeError::TooLarge { row, element, value: weights[element], float: mlx.kind.dtype() });
    }
    let (codes, shared) = cut(mlx, weights.len(), out.len());
    let (codes, rest) = out.split_at_mut(codes);
    let (stored_scales, stored_biases) = rest.split_at_mut(shared);
    let searches = mlx.method == Method::Search;
    if let Some(block) = mlx.kind.block() {
        match mlx.kind {
            MlxType::Mxfp8 => encode_e4m3(weights, codes, stored_scales),
            _ => encode_e2m1(weights, block, searches, codes, stored_scales),
        }
        return Ok(());
    }
    let (bits, group_size) = (mlx.kind.bits(), mlx.group_size as usize);
    for numbers in [&mut *scales, &mut *biases] {
        numbers.clear();
        numbers.resize(weights.len().div_ceil(group_size.max(1)), 0.0);
    }
    if searches {
        let power = extreme::power(absmax);
        let mut prepared = weights;
        if power != 1.0 {
            rescaled.resize(weights.len(), 0.0);
            extreme::rescale(weights, power, rescaled);
            prepared = rescaled;
        }
        search(prepared, importance, bits, group_size, (mlx.float, power), scales, biases);
    } else {
        range(weights, bits, group_size, scales, biases);
        // MLX chooses codes before it rounds the scale.
        encode_codes(weights, bits, group_size, scales, biases, codes);
    }
    narrow(mlx.float, scales, row, stored_scales)?;
    narrow(mlx.float, biases, row, stored_biases)?;
    if searches {
        encode_codes(weights, bits, group_size, scales, biases, codes);
    }
    Ok(())
}

/// Decodes a row into `out`. As MLX does, the product is rounded to the float of the layer, and then the sum.
pub(super) fn decode(mlx: Mlx, bytes: &[u8], out: &mut [f32]) {
    let (codes, shared) = cut(mlx, out.len(), bytes.len());
    let (codes, rest) = bytes.split_at(codes);
    let (stored_scales, stored_biases) = rest.split_at(shared);
    match (mlx.kind, mlx.kind.block()) {
        (MlxType::Mxfp8, _) => decode_e4m3(codes, stored_scales, out),
        (_, Some(block)) => decode_e2m1(codes, stored_scales, block, out),
        (kind, None) => {
            let group_size = mlx.group_size as usize;
            let mut numbers = vec![0.0; out.len().div_ceil(group_size.max(1))];
            widen(mlx.float, stored_scales, &mut numbers);
            multiply_codes(codes, kind.bits(), group_size, &numbers, out);
            round(mlx.float, out);
            widen(mlx.float, stored_biases, &mut numbers);
            add_biases(out, group_size, &numbers);
            round(mlx.float, out);
        }
    }
}
