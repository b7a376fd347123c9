//! Chooses the distribution of a group: the table of the family under which its symbols take the fewest bits.

use super::{
    LANES,
    family::{ESCAPE, HALF, MAGNITUDES, TableId, entry_of, magnitude},
};
use crate::kernels::dispatch::kernel;

/// Symbols of a group, counted by their distance from the middle: at parity 0, then at parity 1.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: [u32; COUNTS],
    raw_bits: u32,
}

/// Counts of a histogram, and room up to a power of two.
const COUNTS: usize = 2 * MAGNITUDES.next_power_of_two();

kernel! {
    /// Counts the symbols of the levels of each lane, with `raw_bits` bits of a symbol left out. `out` has [`LANES`] histograms.
    pub fn histograms(levels: &[[i32; LANES]], raw_bits: &[u32; LANES], out: &mut [Histogram]) {
        let Some(out) = out.first_chunk_mut::<LANES>() else { return };
        for (out, raw_bits) in out.iter_mut().zip(raw_bits) {
            (out.counts, out.raw_bits) = ([0; COUNTS], *raw_bits);
        }
        for levels in levels {
            let (mut parities, mut magnitudes, mut large) = ([0; LANES], [0; LANES], 0);
            for i in 0..LANES {
                parities[i] = levels[i] as u32 & 1 | u32::from(raw_bits[i] > 0);
                magnitudes[i] = magnitude(levels[i] >> (1 + raw_bits[i]), parities[i]);
                large |= magnitudes[i];
            }
            if large >= HALF as u32 {
                magnitudes = magnitudes.map(entry_of);
            }
            for i in 0..LANES {
                out[i].counts[(parities[i] as usize * (COUNTS / 2) + magnitudes[i] as usize) % COUNTS] += 1;
            }
        }
    }
}

impl Histogram {
    /// A histogram of nothing.
    pub const EMPTY: Self = Self { counts: [0; COUNTS], raw_bits: 0 };

    /// Returns the 256ths of a bit that the symbols take under a table.
    fn cost(&self, table: TableId) -> u64 {
        let rates = &table.table().rates;
        let (mut sum, mut symbols) = (0u64, 0u64);
        for (counts, rates) in self.counts.chunks_exact(COUNTS / 2).zip(rates) {
            for (count, rate) in counts.iter().zip(rates) {
                sum += u64::from(*count) * u64::from(*rate);
                symbols += u64::from(*count);
            }
        }
        sum + symbols * u64::from(self.raw_bits) * 256
    }

    /// Returns the best table and the 256ths of a bit that it takes. The cost has one valley along the spread of each shape, so
    /// the search walks down from `near`.
    #[must_use]
    pub fn best(&self, near: TableId) -> (TableId, u64) {
        let (least, most) = TableId::spreads(self.raw_bits);
        let walk = |shape: u8| {
            let mut spread = near.spread().clamp(least, most);
            let at = |spread| self.cost(TableId::new(shape, spread));
            let mut cost = at(spread);
            for up in [true, false] {
                while if up { spread < most } else { spread > least } {
                    let next = if up { spread + 1 } else { spread - 1 };
                    let next_cost = at(next);
                    if next_cost >= cost {
                        break;
                    }
                    (spread, cost) = (next, next_cost);
                }
            }
            (TableId::new(shape, spread), cost)
        };
        let mut best = walk(0);
        for shape in 1..TableId::SHAPES {
            let other = walk(shape);
            if other.1 < best.1 {
                best = other;
            }
        }
        best
    }
}

/// Returns the raw bits and a first spread for levels whose magnitudes sum to `sum`.
#[must_use]
pub fn first_guess(sum: u64, levels: usize) -> TableId {
    // The mean magnitude in eighths; the widest table of its own has a mean of 22.
    let eighths = (8 * sum / (levels as u64).max(1)).max(1);
    let mut raw_bits = 0;
    while raw_bits < 5 && eighths > (8 * 22) << raw_bits {
        raw_bits += 1;
    }
    let (least, most) = TableId::spreads(raw_bits);
    TableId::new(0, (6 * eighths.ilog2() as u8).saturating_sub(8).clamp(least, most))
}

/// Fills a lane of the rates that the trellis weighs: entry `128 + (n >> raw_bits)` is what level `n` costs, times `slope`.
pub fn fill_rates(table: TableId, slope: f32, rates: &mut [f32]) {
    let (raw_bits, tables) = (table.raw_bits(), table.table());
    for (at, rate) in rates.iter_mut().enumerate() {
        let level = at as i32 - i32::from(ESCAPE);
        let parity = if raw_bits == 0 { level as u32 & 1 } else { 1 };
        let magnitude = magnitude(level >> 1, parity).min(HALF as u32) as usize;
        *rate = f32::from(tables.rates[parity as usize][magnitude]) * (slope / 256.0);
    }
}
