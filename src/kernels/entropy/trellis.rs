//! The trellis: levels of least squared error plus what their bits are worth, over all paths (Viterbi), a group in each lane.

use super::{LANES, MOST_LEVEL};
use crate::kernels::{
    dispatch::kernel,
    lanes::{max, min},
};

/// Squared steps that a bit is worth: `2 ln 2` times the squared error of a weight, the slope of the bound. At this slope the mean
/// of the weights that choose a level is the level itself to 0.01 steps, so that no points of reconstruction are stored.
pub const SLOPE: f32 = 0.38;

/// Adding and subtracting it rounds to a whole number, half to even.
const MAGIC: f32 = 12_582_912.0;

/// Entries of the rates of a lane.
pub const RATES: usize = 256;

type Lanes<T> = [T; LANES];

/// Returns the level of a class (its remainder by 4) that is nearest to each weight, as a number and as an integer.
#[inline(always)]
fn nearest(weights: &Lanes<f32>, class: &Lanes<i32>) -> (Lanes<f32>, Lanes<i32>) {
    let (mut level, mut integer) = ([0.0; LANES], [0; LANES]);
    for i in 0..LANES {
        let offset = class[i] as f32;
        let rounded = (weights[i] - offset) * 0.25 + MAGIC;
        level[i] = (rounded - MAGIC) * 4.0 + offset;
        integer[i] = (rounded.to_bits() as i32 - MAGIC.to_bits() as i32) * 4 + class[i];
    }
    (level, integer)
}

/// Returns the cost of each lane's nearest level of a class.
#[inline(always)]
fn cost(weights: &Lanes<f32>, class: i32, rates: &[f32; LANES * RATES], raw_bits: &Lanes<i32>) -> Lanes<f32> {
    let (level, integer) = nearest(weights, &[class; LANES]);
    // Three loops, so that only the one in the middle, which looks up, goes lane by lane.
    let mut at = [0; LANES];
    for i in 0..LANES {
        at[i] = (integer[i] >> raw_bits[i]).clamp(-128, 127) + (128 + RATES * i) as i32;
    }
    let mut cost = [0.0; LANES];
    for i in 0..LANES {
        cost[i] = rates[at[i] as usize % (LANES * RATES)];
    }
    for i in 0..LANES {
        let error = weights[i] - level[i];
        cost[i] += error * error;
    }
    cost
}

/// Returns the lesser of two costs, and 1 where it is the second.
#[inline(always)]
fn select(first: &Lanes<f32>, a: &Lanes<f32>, second: &Lanes<f32>, b: &Lanes<f32>) -> (Lanes<f32>, Lanes<i32>) {
    let (mut least, mut which) = ([0.0; LANES], [0; LANES]);
    for i in 0..LANES {
        let (one, other) = (first[i] + a[i], second[i] + b[i]);
        which[i] = i32::from(other < one);
        least[i] = if other < one { other } else { one };
    }
    (least, which)
}

kernel! {
    /// Fills a lane of `steps` with `weights / step`, no larger than `MOST_LEVEL`, and of `levels` with the levels that are nearest
    /// (half to even). Returns the sum of their magnitudes. A step of 0 makes all zeros.
    pub fn in_steps(
        weights: &[f32],
        step: f32,
        lane: usize,
        steps: &mut [[f32; LANES]],
        levels: &mut [[i32; LANES]],
    ) -> u64 {
        const MOST: f32 = MOST_LEVEL as f32;
        let (mut sum, lane) = (0, lane % LANES);
        for ((weights, steps), levels) in weights.chunks(LANES).zip(steps.chunks_mut(LANES)).zip(levels.chunks_mut(LANES)) {
            let (mut scaled, mut rounded) = ([0.0; LANES], [0; LANES]);
            scaled[..weights.len()].copy_from_slice(weights);
            for i in 0..LANES {
                scaled[i] = if step > 0.0 { min(max(scaled[i] / step, -MOST), MOST) } else { 0.0 };
                rounded[i] = (scaled[i] + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
            }
            sum += rounded.iter().map(|level| u64::from(level.unsigned_abs())).sum::<u64>();
            for ((steps, levels), (scaled, rounded)) in steps.iter_mut().zip(levels).zip(scaled.iter().zip(rounded)) {
                (steps[lane], levels[lane]) = (*scaled, rounded);
            }
        }
        sum
    }
}

kernel! {
    /// Fills `levels` with the best levels of `weights`, which are in steps and no larger than `MOST_LEVEL`. `rates` has
    /// [`RATES`] entries for each lane ([`fill_rates`](super::choose::fill_rates)), `decisions` is room for as many weights.
    pub fn trellis(
        weights: &[[f32; LANES]],
        rates: &[f32; LANES * RATES],
        raw_bits: &[i32; LANES],
        decisions: &mut [[u8; LANES]],
        levels: &mut [[i32; LANES]],
    ) {
        // A path begins at state 0.
        let mut costs = [[0.0f32; LANES], [f32::MAX / 4.0; LANES], [f32::MAX / 4.0; LANES], [f32::MAX / 4.0; LANES]];
        for (weights, decisions) in weights.iter().zip(decisions.iter_mut()) {
            let (even, odd) = (cost(weights, 0, rates, raw_bits), cost(weights, 1, rates, raw_bits));
            let (even_2, odd_2) = (cost(weights, 2, rates, raw_bits), cost(weights, 3, rates, raw_bits));
            let (c0, d0) = select(&costs[0], &even, &costs[2], &even_2);
            let (c1, d1) = select(&costs[0], &even_2, &costs[2], &even);
            let (c2, d2) = select(&costs[1], &odd, &costs[3], &odd_2);
            let (c3, d3) = select(&costs[1], &odd_2, &costs[3], &odd);
            for i in 0..LANES {
                decisions[i] = (d0[i] | d1[i] << 1 | d2[i] << 2 | d3[i] << 3) as u8;
                // What all paths cost is taken away, so that sums of long groups keep their digits.
                let base = c0[i];
                (costs[0][i], costs[1][i]) = (0.0, c1[i] - base);
                (costs[2][i], costs[3][i]) = (c2[i] - base, c3[i] - base);
            }
        }
        let mut states = [0i32; LANES];
        for i in 0..LANES {
            for state in 1..4 {
                if costs[state][i] < costs[states[i] as usize % 4][i] {
                    states[i] = state as i32;
                }
            }
        }
        for ((weights, decisions), levels) in weights.iter().zip(decisions.iter()).zip(levels.iter_mut()).rev() {
            let mut class = [0; LANES];
            for i in 0..LANES {
                let (state, decision) = (states[i], i32::from(decisions[i]) >> states[i] & 1);
                class[i] = (state >> 1) + 2 * (state & 1 ^ decision);
                states[i] = (state >> 1) + 2 * decision;
            }
            *levels = nearest(weights, &class).1;
        }
    }
}
