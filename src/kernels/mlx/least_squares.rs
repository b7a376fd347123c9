//! Scales and biases of least squared error.
//!
//! Candidates are pairs as they will be stored. Sums over a group give the error of a pair and the least-squares pair for its
//! codes, which is the next candidate. Both numbers are real, so that nothing is shared with the search for zero points
//! that are codes.

use super::affine::{extremes, most, of_range};
use crate::{
    kernels::{
        dispatch::kernel,
        lanes::fold,
        params::round_clamped_f32,
        search::{FloatScale, Grid},
    },
    types::Float,
};

const LANES: usize = 16;

/// The shares of a range that are cut off at both ends, of codes of up to 3 bits and of others.
const CUTS: [[f32; 3]; 2] = [[0.0, 0.1, 0.2], [0.0, 0.04, 0.08]];

/// Changes of the best pair, in steps of a code: of the whole range, about its middle, and of the bias.
const MOVES: [(f32, f32); 4] = [(0.5, 0.0), (-0.5, 0.0), (0.0, 0.25), (0.0, -0.25)];

/// The times that all moves are tried.
const ROUNDS: usize = 2;

/// The floats that are stored of a row that was multiplied by `power`.
#[derive(Clone, Copy)]
struct Stored {
    grid: FloatScale,
    largest: f32,
    power: f32,
}

impl Stored {
    /// Returns the stored number that is nearest; infinity where there is none.
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        let size = self.grid.nearest(x.abs() / self.power);
        let size = if size <= self.largest { size * self.power } else { f32::INFINITY };
        if x < 0.0 { -size } else { size }
    }
}

/// The sums over a group with the codes of a pair: of the squared errors, the codes, their squares, and their products with the
/// weights, each times its importance.
struct Sums {
    error: f32,
    codes: f32,
    squares: f32,
    products: f32,
}

/// A group, with the sums that need no codes.
struct Group<'a, const WEIGHTED: bool> {
    weights: &'a [f32],
    importance: &'a [f32],
    count: f32,
    total: f32,
    most: f32,
    stored: Stored,
}

impl<'a, const WEIGHTED: bool> Group<'a, WEIGHTED> {
    #[inline(always)]
    fn new(weights: &'a [f32], importance: &'a [f32], most: f32, stored: Stored) -> Self {
        let (mut count, mut total) = ([0f32; LANES], [0f32; LANES]);
        for (c, chunk) in weights.as_chunks::<LANES>().0.iter().enumerate() {
            let counts = importance_of::<WEIGHTED>(importance, c);
            for i in 0..LANES {
                count[i] += counts[i];
                total[i] += counts[i] * chunk[i];
            }
        }
        let (count, total) = (fold(count, |a, b| a + b), fold(total, |a, b| a + b));
        Self { weights, importance, count, total, most, stored }
    }

    #[inline(always)]
    fn sums(&self, scale: f32, bias: f32) -> Sums {
        let inverse = 1.0 / scale;
        let [mut errors, mut codes, mut squares, mut products] = [[0f32; LANES]; 4];
        for (c, chunk) in self.weights.as_chunks::<LANES>().0.iter().enumerate() {
            let counts = importance_of::<WEIGHTED>(self.importance, c);
            for i in 0..LANES {
                let code = round_clamped_f32((chunk[i] - bias) * inverse, self.most);
                let off = chunk[i] - (code * scale + bias);
                let counted = counts[i] * code;
                errors[i] += counts[i] * off * off;
                codes[i] += counted;
                squares[i] += counted * code;
                products[i] += counted * chunk[i];
            }
        }
        let sum = |lanes| fold(lanes, |a: f32, b| a + b);
        Sums { error: sum(errors), codes: sum(codes), squares: sum(squares), products: sum(products) }
    }

    /// Returns the pair of least squares for codes, as it is stored.
    #[inline(always)]
    fn fitted(&self, sums: &Sums) -> (f32, f32) {
        let spread = self.count * sums.squares - sums.codes * sums.codes;
        let scale = (self.count * sums.products - self.total * sums.codes) / spread;
        let scale = self.stored.nearest(scale);
        (scale, self.stored.nearest((self.total - scale * sums.codes) / self.count))
    }
}

#[inline(always)]
fn importance_of<const WEIGHTED: bool>(importance: &[f32], chunk: usize) -> [f32; LANES] {
    if !WEIGHTED {
        return [1.0; LANES];
    }
    importance.as_chunks::<LANES>().0.get(chunk).copied().unwrap_or([0.0; LANES])
}

/// The best pair so far.
struct Best {
    error: f32,
    scale: f32,
    bias: f32,
}

impl Best {
    /// Tries a pair, and returns the sums of its codes. NaN is never better.
    #[inline(always)]
    fn take<const WEIGHTED: bool>(&mut self, group: &Group<'_, WEIGHTED>, (scale, bias): (f32, f32)) -> Sums {
        let sums = group.sums(scale, bias);
        if sums.error < self.error && scale != 0.0 && scale.is_finite() && bias.is_finite() {
            *self = Self { error: sums.error, scale, bias };
        }
        sums
    }
}

#[inline(always)]
fn searched<const WEIGHTED: bool>(group: &Group<'_, WEIGHTED>, bits: u8) -> (f32, f32) {
    let (most, stored) = (group.most, group.stored);
    let (low, high) = extremes(group.weights);
    let (scale, bias) = of_range(group.weights, most, f32::MIN_POSITIVE);
    let (scale, bias) = (stored.nearest(scale), stored.nearest(bias));
    let mut best = Best { error: f32::INFINITY, scale, bias };
    best.take(group, (scale, bias));
    for cut in CUTS[usize::from(bits > 3)] {
        let reach = high - low;
        let scale = stored.nearest((1.0 - 2.0 * cut) * reach / most);
        let mut sums = best.take(group, (scale, stored.nearest(low + cut * reach)));
        for _ in 0..2 {
            sums = best.take(group, group.fitted(&sums));
        }
    }
    for _ in 0..ROUNDS {
        for (wider, higher) in MOVES {
            let scale = stored.nearest(best.scale * (1.0 + wider / most));
            let bias = best.bias + best.scale * higher - (scale - best.scale) * (0.5 * most);
            let sums = best.take(group, (scale, stored.nearest(bias)));
            best.take(group, group.fitted(&sums));
        }
    }
    (best.scale, best.bias)
}

kernel! {
    /// Fills scale and bias of every group for the least squared error, as a float stores them, and never loses more than
    /// [`range`](fn@super::range). Each error is multiplied by its weight in `importance` where given.
    ///
    /// `stored` is the float, and a power: `row` holds the weights times that, 1 but for rows near the ends of f32
    /// ([`extreme`](crate::kernels::extreme)); what is filled is for the weights themselves. `group_size` is a multiple of 32.
    ///
    /// ```
    /// use arrow_quant::types::Float;
    ///
    /// let row: Vec<f32> = (0..32).map(|i| (i % 4) as f32 * 0.5 - 1.0).collect();
    /// let (mut scales, mut biases) = ([0.0], [0.0]);
    /// arrow_quant::kernels::mlx::search(&row, None, 2, 32, (Float::BF16, 1.0), &mut scales, &mut biases);
    /// assert_eq!((scales[0].abs(), biases), (0.5, [-1.0]));
    /// ```
    pub fn search(
        row: &[f32],
        importance: Option<&[f32]>,
        bits: u8,
        group_size: usize,
        stored: (Float, f32),
        scales: &mut [f32],
        biases: &mut [f32],
    ) {
        let (float, power) = stored;
        let stored = Stored { grid: FloatScale::of(float), largest: largest(float), power };
        let (group_size, most) = (group_size.max(1), most(bits));
        for (g, ((weights, scale), bias)) in row.chunks(group_size).zip(scales).zip(biases).enumerate() {
            let start = g * group_size;
            let (found, base) = match importance.and_then(|all| all.get(start..start + weights.len())) {
                Some(importance) => searched(&Group::<true>::new(weights, importance, most, stored), bits),
                None => searched(&Group::<false>::new(weights, &[], most, stored), bits),
            };
            (*scale, *bias) = (found / power, base / power);
        }
    }
}

/// Returns the largest number of a float.
#[inline(always)]
pub(super) const fn largest(float: Float) -> f32 {
    match float {
        Float::F16 => 65504.0,
        Float::BF16 => f32::from_bits(0x7f7f_0000),
        Float::F32 | Float::F64 => f32::MAX,
    }
}
