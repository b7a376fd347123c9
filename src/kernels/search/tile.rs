//! Weights laid out for the search: one group per lane, or one long group over all lanes.

use std::array::from_fn;

use crate::kernels::{
    lanes::{fold, max, min},
    params::reciprocal,
};

/// Groups in a tile, where a row has so many: two vectors of AVX-512, so that the steps between the sums, each waiting for
/// the one before, overlap.
pub(in crate::kernels) const WIDE: usize = 32;

/// Groups in the tile at the end of a row.
pub(in crate::kernels) const NARROW: usize = 16;

/// The most weights of a group that is given a lane of its own.
pub(super) const DEPTH: usize = 128;

/// One number for each of `L` lanes.
pub(in crate::kernels) type Lane<const L: usize> = [f32; L];

/// Room for a transposed tile.
pub(in crate::kernels) struct Buffer {
    weights: [f32; WIDE * DEPTH],
    importance: [f32; WIDE * DEPTH],
}

impl Buffer {
    pub(in crate::kernels) const EMPTY: Self = Self { weights: [0.0; WIDE * DEPTH], importance: [0.0; WIDE * DEPTH] };
}

/// `L` groups, or one long one, with sums over them.
pub(in crate::kernels) struct Tile<'t, const L: usize> {
    /// Rows of one weight of each lane.
    pub weights: &'t [Lane<L>],
    /// Their importances; `None`: all are 1.
    pub importance: Option<&'t [Lane<L>]>,
    /// True if all lanes are of one group, whose sums are sums over lanes.
    pub one_group: bool,
    /// Weights after the last full row, with importances; 0 where there are none.
    pub tail: Option<(Lane<L>, Lane<L>)>,
    /// The sum of importances.
    pub n: Lane<L>,
    /// `1 / n`.
    pub inverse_n: Lane<L>,
    /// The sum of weights, each times its importance.
    pub x: Lane<L>,
    /// The sum of their squares, each times its importance.
    pub xx: Lane<L>,
    /// The range, zero included.
    pub low: Lane<L>,
    /// As `low`.
    pub high: Lane<L>,
}

impl<'t, const L: usize> Tile<'t, L> {
    /// Returns the first `L` groups of `weights`, transposed. `group_size` is at most [`DEPTH`].
    #[inline(always)]
    pub(in crate::kernels) fn of_groups(
        weights: &[f32],
        importance: Option<&[f32]>,
        group_size: usize,
        buffer: &'t mut Buffer,
    ) -> Self {
        let group_size = group_size.clamp(1, DEPTH);
        let weights = &weights[..weights.len().min(L * group_size)];
        // A group that is cut short counts for less. Lanes without a group are of zeros, and nobody asks for them.
        let weighted = importance.is_some() || !weights.len().is_multiple_of(group_size);
        transpose(weights, group_size, L, &mut buffer.weights);
        if weighted {
            let importance = importance.unwrap_or(&[1.0; WIDE * DEPTH]);
            transpose(&importance[..weights.len()], group_size, L, &mut buffer.importance);
        }
        let rows = &buffer.weights.as_chunks().0[..group_size];
        let places = &buffer.importance.as_chunks().0[..group_size];
        Self::new(rows, weighted.then_some(places), false, None, group_size as f32)
    }

    /// Fills all lanes with one group.
    #[inline(always)]
    pub(super) fn of_one(group: &'t [f32], importance: Option<&'t [f32]>) -> Self {
        let (rows, rest) = group.as_chunks::<L>();
        let (mut tail, mut tail_importance) = ([0.0; L], [0.0; L]);
        tail[..rest.len()].copy_from_slice(rest);
        let (importance_rows, importance_rest) = importance.unwrap_or_default().as_chunks::<L>();
        tail_importance[..rest.len()].fill(1.0);
        for (place, value) in tail_importance.iter_mut().zip(importance_rest) {
            *place = *value;
        }
        let tail = (!rest.is_empty()).then_some((tail, tail_importance));
        Self::new(rows, importance.map(|_| importance_rows), true, tail, rows.len() as f32)
    }

    #[inline(always)]
    fn new(
        weights: &'t [Lane<L>],
        importance: Option<&'t [Lane<L>]>,
        one_group: bool,
        tail: Option<(Lane<L>, Lane<L>)>,
        rows: f32,
    ) -> Self {
        let (mut n, mut x, mut xx) = ([0f32; L], [0f32; L], [0f32; L]);
        let (mut low, mut high) = ([0f32; L], [0f32; L]);
        if let Some((row, importance)) = &tail {
            for i in 0..L {
                (low[i], high[i]) = (min(row[i], low[i]), max(row[i], high[i]));
                (n[i], x[i]) = (importance[i], row[i] * importance[i]);
                xx[i] = x[i] * row[i];
            }
        }
        for row in weights {
            for i in 0..L {
                (low[i], high[i]) = (min(row[i], low[i]), max(row[i], high[i]));
            }
        }
        if let Some(importance) = importance {
            for (row, importance) in weights.iter().zip(importance) {
                for i in 0..L {
                    n[i] += importance[i];
                    let weighted = row[i] * importance[i];
                    x[i] += weighted;
                    xx[i] += weighted * row[i];
                }
            }
        } else {
            for row in weights {
                for i in 0..L {
                    x[i] += row[i];
                    xx[i] += row[i] * row[i];
                }
            }
            n = n.map(|n| n + rows);
        }
        let mut tile = Self { weights, importance, one_group, tail, n, inverse_n: n, x, xx, low, high };
        if one_group {
            tile.low = [fold(low, min); L];
            tile.high = [fold(high, max); L];
            tile.n = tile.total(n);
            tile.x = tile.total(x);
            tile.xx = tile.total(xx);
        }
        tile.inverse_n = tile.n.map(reciprocal);
        tile
    }

    /// Turns sums of lanes into sums of groups.
    #[inline(always)]
    pub(super) fn total(&self, sums: Lane<L>) -> Lane<L> {
        if self.one_group { [fold(sums, |a, b| a + b); L] } else { sums }
    }
}

/// Copies weight `i` of group `lane` to `rows[i * lanes + lane]`; 0 where there is none. `lanes` is a multiple of 4.
///
/// Compiled once, not for each target: nothing is computed, and every target shuffles four by four. Inlined it becomes
/// gathers with AVX-512, which took a sixth of the search.
#[inline(never)]
fn transpose(weights: &[f32], group_size: usize, lanes: usize, rows: &mut [f32]) {
    for first in (0..lanes).step_by(4) {
        let groups: [&[f32]; 4] = from_fn(|k| {
            let start = (first + k) * group_size;
            weights.get(start..(start + group_size).min(weights.len())).unwrap_or_default()
        });
        let whole = if groups[3].len() == group_size { group_size / 4 * 4 } else { 0 };
        for i in (0..whole).step_by(4) {
            let [a, b, c, d]: [[f32; 4]; 4] = groups.map(|group| from_fn(|j| group[i + j]));
            for j in 0..4 {
                rows[(i + j) * lanes + first..][..4].copy_from_slice(&[a[j], b[j], c[j], d[j]]);
            }
        }
        for i in whole..group_size {
            for (k, group) in groups.iter().enumerate() {
                rows[i * lanes + first + k] = group.get(i).copied().unwrap_or(0.0);
            }
        }
    }
}
