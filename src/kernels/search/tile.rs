//! Weights laid out for the search: one group per lane, or one long group over all lanes.

use crate::kernels::{
    lanes::{fold, max, min},
    params::reciprocal,
};

/// Groups in a tile.
pub(in crate::kernels) const LANES: usize = 16;

/// The most weights of a group that is given a lane of its own.
pub(super) const DEPTH: usize = 128;

/// One number for each lane.
pub(in crate::kernels) type Lane = [f32; LANES];

/// Room for a transposed tile.
pub(in crate::kernels) struct Buffer {
    weights: [Lane; DEPTH],
    importance: [Lane; DEPTH],
}

impl Buffer {
    pub(in crate::kernels) const EMPTY: Self =
        Self { weights: [[0.0; LANES]; DEPTH], importance: [[0.0; LANES]; DEPTH] };
}

/// Sixteen groups, or one long one, with sums over them.
pub(in crate::kernels) struct Tile<'t> {
    /// Rows of one weight of each lane.
    pub weights: &'t [Lane],
    /// Their importances; `None`: all are 1.
    pub importance: Option<&'t [Lane]>,
    /// Whether all lanes are of one group, whose sums are sums over lanes.
    pub one_group: bool,
    /// Weights after the last full row, with importances; 0 where there are none.
    pub tail: Option<(Lane, Lane)>,
    /// The sum of importances.
    pub n: Lane,
    /// `1 / n`.
    pub inverse_n: Lane,
    /// The sum of weights, each times its importance.
    pub x: Lane,
    /// The range, zero included.
    pub low: Lane,
    /// As `low`.
    pub high: Lane,
}

impl<'t> Tile<'t> {
    /// The first sixteen groups of `weights`, transposed. `group_size` is at most [`DEPTH`].
    #[inline(always)]
    pub(in crate::kernels) fn of_groups(
        weights: &[f32],
        importance: Option<&[f32]>,
        group_size: usize,
        buffer: &'t mut Buffer,
    ) -> Self {
        let group_size = group_size.min(DEPTH);
        let full = weights.len() >= LANES * group_size;
        if full && group_size == 32 {
            // With a constant, which the compiler can unroll by, the default and the sub-blocks of GGUF.
            transpose(&weights[..LANES * 32], 32, &mut buffer.weights[..32]);
        } else if full && group_size == 16 {
            transpose(&weights[..LANES * 16], 16, &mut buffer.weights[..16]);
        } else {
            transpose(&weights[..weights.len().min(LANES * group_size)], group_size, &mut buffer.weights[..group_size]);
        }
        let weighted = !full || importance.is_some();
        if weighted {
            let places = &mut buffer.importance[..group_size];
            places.fill([0.0; LANES]);
            for (lane, group) in weights.chunks(group_size).take(LANES).enumerate() {
                for (i, place) in places.iter_mut().enumerate().take(group.len()) {
                    place[lane] = importance.map_or(1.0, |weights| weights[lane * group_size + i]);
                }
            }
        }
        let importance = weighted.then_some(&buffer.importance[..group_size]);
        Self::new(&buffer.weights[..group_size], importance, false, None, group_size as f32)
    }

    /// One group over all lanes.
    #[inline(always)]
    pub(super) fn of_one(group: &'t [f32], importance: Option<&'t [f32]>) -> Self {
        let (rows, rest) = group.as_chunks::<LANES>();
        let (mut tail, mut tail_importance) = ([0.0; LANES], [0.0; LANES]);
        tail[..rest.len()].copy_from_slice(rest);
        let (importance_rows, importance_rest) = importance.unwrap_or_default().as_chunks::<LANES>();
        tail_importance[..rest.len()].fill(1.0);
        for (place, value) in tail_importance.iter_mut().zip(importance_rest) {
            *place = *value;
        }
        let tail = (!rest.is_empty()).then_some((tail, tail_importance));
        Self::new(rows, importance.map(|_| importance_rows), true, tail, rows.len() as f32)
    }

    #[inline(always)]
    fn new(
        weights: &'t [Lane],
        importance: Option<&'t [Lane]>,
        one_group: bool,
        tail: Option<(Lane, Lane)>,
        rows: f32,
    ) -> Self {
        let (mut n, mut x) = ([0f32; LANES], [0f32; LANES]);
        let (mut low, mut high) = ([0f32; LANES], [0f32; LANES]);
        for row in weights.iter().chain(tail.iter().map(|(row, _)| row)) {
            for i in 0..LANES {
                low[i] = min(row[i], low[i]);
                high[i] = max(row[i], high[i]);
            }
        }
        let mut add = |row: &Lane, importance: &Lane| {
            for i in 0..LANES {
                n[i] += importance[i];
                x[i] += row[i] * importance[i];
            }
        };
        if let Some((row, importance)) = &tail {
            add(row, importance);
        }
        if let Some(importance) = importance {
            weights.iter().zip(importance).for_each(|(row, importance)| add(row, importance));
        } else {
            for row in weights {
                for i in 0..LANES {
                    x[i] += row[i];
                }
            }
            n = n.map(|n| n + rows);
        }
        let mut tile = Self { weights, importance, one_group, tail, n, inverse_n: n, x, low, high };
        if one_group {
            tile.low = [fold(low, min); LANES];
            tile.high = [fold(high, max); LANES];
            tile.n = tile.total(n);
            tile.x = tile.total(x);
        }
        tile.inverse_n = tile.n.map(reciprocal);
        tile
    }

    /// Sums of lanes to sums of groups.
    #[inline(always)]
    pub(super) fn total(&self, sums: Lane) -> Lane {
        if self.one_group { [fold(sums, |a, b| a + b); LANES] } else { sums }
    }
}

/// Weight `i` of group `lane` to `rows[i][lane]`; 0 where there is none.
#[inline(always)]
fn transpose(weights: &[f32], group_size: usize, rows: &mut [Lane]) {
    if weights.len() < LANES * group_size {
        rows.fill([0.0; LANES]);
    }
    for (lane, group) in weights.chunks(group_size).enumerate() {
        for (row, w) in rows.iter_mut().zip(group) {
            row[lane] = *w;
        }
    }
}
