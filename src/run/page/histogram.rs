//! The weights of a tensor before and after, counted in bins.

use arrow_array::{Array, cast::AsArray, types::Float32Type};
use serde::Serialize;

use crate::{
    model::{Model, part::Run, scan::rows_of},
    storage::error::IoError,
    types::weights::{WEIGHTS, weights_schema},
};

const BINS: usize = 160;

/// The height of a drawing, in units of its width divided by [`BINS`].
const HEIGHT: f64 = 60.0;

/// The weights that are counted of a tensor, about: its rows are taken at equal distances.
const COUNTED: usize = 1 << 20;

/// A tensor's weights, drawn. Heights are logarithms of counts.
#[derive(Debug, Serialize)]
pub struct Histogram {
    name: String,
    low: String,
    high: String,
    /// Outlines, as SVG has them, in a box of `width` by `height`.
    before: String,
    after: String,
    width: usize,
    height: f64,
}

/// Draws a tensor of two models. Returns `None` for one that is not of floats, or whose shape differs.
///
/// # Errors
/// Returns an error if rows cannot be read.
pub fn histogram(name: &str, before: (&Model, usize), after: (&Model, usize)) -> Result<Option<Histogram>, IoError> {
    let [first, second] = [before, after].map(|(model, tensor)| &model.tensors()[tensor]);
    if first.shape != second.shape || first.rows == 0 {
        return Ok(None);
    }
    let step = first.elements().div_ceil(COUNTED).clamp(1, first.rows);
    let (Some(first), Some(second)) = (weights(before, step)?, weights(after, step)?) else { return Ok(None) };
    let finite = || first.iter().chain(&second).copied().filter(|x| x.is_finite());
    let (low, high) = finite().fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(x), high.max(x)));
    if low >= high {
        return Ok(None);
    }
    let [first, second] = [first, second].map(|weights| count(&weights, low, high));
    let most = first.iter().chain(&second).copied().max().unwrap_or(1);
    Ok(Some(Histogram {
        name: name.to_owned(),
        low: format!("{low:.4}"),
        high: format!("{high:.4}"),
        before: outline(&first, most),
        after: outline(&second, most),
        width: BINS,
        height: HEIGHT,
    }))
}

/// Returns the weights of every `step`-th row, or `None` where they are not floats.
fn weights((model, tensor): (&Model, usize), step: usize) -> Result<Option<Vec<f32>>, IoError> {
    let column = weights_schema().index_of(WEIGHTS).map_err(IoError::arrow(model.folder()))?;
    let mut all = Vec::new();
    for row in (0..model.tensors()[tensor].rows).step_by(step) {
        let batch = rows_of(model, Run { tensor, rows: row..row + 1 }, &[column])?;
        let rows = batch.column(0).as_list::<i32>();
        if rows.is_null(0) {
            return Ok(None);
        }
        all.extend_from_slice(rows.value(0).as_primitive::<Float32Type>().values());
    }
    Ok(Some(all))
}

fn count(weights: &[f32], low: f32, high: f32) -> [u64; BINS] {
    let mut counts = [0; BINS];
    let width = f64::from(high) - f64::from(low);
    for x in weights.iter().filter(|x| x.is_finite()) {
        let bin = (f64::from(*x) - f64::from(low)) / width * BINS as f64;
        counts[(bin as usize).min(BINS - 1)] += 1;
    }
    counts
}

fn outline(counts: &[u64; BINS], most: u64) -> String {
    let height = |count: u64| HEIGHT * (1.0 - (count as f64).ln_1p() / (most as f64).ln_1p());
    let steps = counts.iter().enumerate().map(|(bin, count)| format!("V{:.1}H{}", height(*count), bin + 1));
    format!("M0 {HEIGHT}{}V{HEIGHT}Z", steps.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_in_one_bin() {
        let weights: Vec<f32> = (0..1000).map(|i| i as f32 / 999.0 - 0.5).collect();
        let counts = count(&weights, -0.5, 0.5);
        assert_eq!(counts.iter().sum::<u64>(), 1000);
        assert!(counts.iter().all(|count| (6..=7).contains(count)), "{counts:?}");
        let one = count(&[f32::NAN, -0.5, 0.5, f32::INFINITY], -0.5, 0.5);
        assert_eq!((one[0], one[BINS - 1], one.iter().sum::<u64>()), (1, 1, 2));
        assert!(outline(&one, 1).starts_with("M0 60V0.0H1V60.0H2") && outline(&one, 1).ends_with("V0.0H160V60Z"));
    }
}
