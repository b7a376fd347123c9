//! Sums over the codes of a tile, and its errors weight by weight.

use super::tile::{Lane, Tile};
use crate::kernels::params::{max_code, reciprocal, round_clamped_f32};

/// Sums over the codes `q` that a candidate gives.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Sums<const L: usize> {
    pub q: Lane<L>,
    pub qq: Lane<L>,
    pub xq: Lane<L>,
}

impl<const L: usize> Sums<L> {
    pub(in crate::kernels) const NONE: Self = Self { q: [0.0; L], qq: [0.0; L], xq: [0.0; L] };

    /// Sums over the codes of all weights of a tile, for an inverse scale and a zero point.
    #[inline(always)]
    pub(in crate::kernels) fn of<const BITS: usize>(tile: &Tile<L>, inverse: &Lane<L>, z: &Lane<L>) -> Self {
        let mut sums = Self::NONE;
        let (q, qq, xq) = (parts_mut(&mut sums.q), parts_mut(&mut sums.qq), parts_mut(&mut sums.xq));
        for (part, (inverse, z)) in parts(inverse).iter().zip(parts(z)).enumerate() {
            [q[part], qq[part], xq[part]] = sums_of(tile, part, &Codes::<BITS> { inverse, z });
        }
        Self { q: tile.total(sums.q), qq: tile.total(sums.qq), xq: tile.total(sums.xq) }
    }
}

/// Returns the squared error of each lane, weight by weight, times the importances: what is left where the sums would
/// cancel.
#[inline(always)]
pub(in crate::kernels) fn errors<const BITS: usize, const L: usize>(
    tile: &Tile<L>,
    s: &Lane<L>,
    z: &Lane<L>,
) -> Lane<L> {
    let inverse = s.map(reciprocal);
    let mut errors = [0.0; L];
    let out = parts_mut(&mut errors);
    for (part, (inverse, z)) in parts(&inverse).iter().zip(parts(z)).enumerate() {
        [out[part]] = sums_of(tile, part, &Errors::<BITS> { s: &parts(s)[part], z, inverse });
    }
    tile.total(errors)
}

/// `N` numbers of each weight, to be added up. A trait, since a closure would be compiled for the baseline.
trait Summand<const N: usize> {
    /// Adds those of weights, with their importances where they differ.
    fn add(&self, sums: &mut [Part; N], x: &Part, weight: Option<&Part>);
}

/// Returns the sums over a part of the lanes of a tile.
#[inline(always)]
fn sums_of<const N: usize, const L: usize>(tile: &Tile<L>, part: usize, summand: &impl Summand<N>) -> [Part; N] {
    let mut sums = [[0.0; AT_ONCE]; N];
    if let Some((x, weight)) = &tile.tail {
        summand.add(&mut sums, &parts(x)[part], Some(&parts(weight)[part]));
    }
    match tile.importance {
        None => {
            for x in tile.weights {
                summand.add(&mut sums, &parts(x)[part], None);
            }
        }
        Some(importance) => {
            for (x, weight) in tile.weights.iter().zip(importance) {
                summand.add(&mut sums, &parts(x)[part], Some(&parts(weight)[part]));
            }
        }
    }
    sums
}

/// Lanes whose sums are taken together, so that they stay in registers.
const AT_ONCE: usize = 16;

/// One number for each of these lanes.
type Part = [f32; AT_ONCE];

#[inline(always)]
fn parts<const L: usize>(lanes: &Lane<L>) -> &[Part] {
    lanes.as_chunks().0
}

#[inline(always)]
fn parts_mut<const L: usize>(lanes: &mut Lane<L>) -> &mut [Part] {
    lanes.as_chunks_mut().0
}

/// The codes `q`: sums of `q`, `q^2` and `x q`.
struct Codes<'a, const BITS: usize> {
    inverse: &'a Part,
    z: &'a Part,
}

impl<const BITS: usize> Summand<3> for Codes<'_, BITS> {
    #[inline(always)]
    fn add(&self, [sum_q, sum_qq, sum_xq]: &mut [Part; 3], x: &Part, weight: Option<&Part>) {
        for i in 0..AT_ONCE {
            let q = round_clamped_f32(x[i] * self.inverse[i] + self.z[i], max_code::<BITS>());
            let wq = weight.map_or(q, |w| w[i] * q);
            sum_q[i] += wq;
            sum_qq[i] += wq * q;
            sum_xq[i] += wq * x[i];
        }
    }
}

/// The squared error of what the codes decode to.
struct Errors<'a, const BITS: usize> {
    s: &'a Part,
    z: &'a Part,
    inverse: &'a Part,
}

impl<const BITS: usize> Summand<1> for Errors<'_, BITS> {
    #[inline(always)]
    fn add(&self, [sum]: &mut [Part; 1], x: &Part, weight: Option<&Part>) {
        for i in 0..AT_ONCE {
            let q = round_clamped_f32(x[i] * self.inverse[i] + self.z[i], max_code::<BITS>());
            let off = x[i] - self.s[i] * (q - self.z[i]);
            sum[i] += weight.map_or(off, |w| w[i] * off) * off;
        }
    }
}

/// Returns the squared error of each lane in blocks of GGUF, `weight = s * code - m`, weight by weight, times the
/// importances.
#[inline(always)]
pub(in crate::kernels) fn block_errors<const BITS: usize, const L: usize>(
    tile: &Tile<L>,
    inverse: &Lane<L>,
    z: &Lane<L>,
    s: &Lane<L>,
    m: &Lane<L>,
) -> Lane<L> {
    let mut errors = [0.0; L];
    let out = parts_mut(&mut errors);
    for (part, (inverse, z)) in parts(inverse).iter().zip(parts(z)).enumerate() {
        let summand = BlockErrors::<BITS> { inverse, z, s: &parts(s)[part], m: &parts(m)[part] };
        [out[part]] = sums_of(tile, part, &summand);
    }
    tile.total(errors)
}

/// The squared error of what the codes of a block decode to.
struct BlockErrors<'a, const BITS: usize> {
    inverse: &'a Part,
    z: &'a Part,
    s: &'a Part,
    m: &'a Part,
}

impl<const BITS: usize> Summand<1> for BlockErrors<'_, BITS> {
    #[inline(always)]
    fn add(&self, [sum]: &mut [Part; 1], x: &Part, weight: Option<&Part>) {
        for i in 0..AT_ONCE {
            let q = round_clamped_f32(x[i] * self.inverse[i] + self.z[i], max_code::<BITS>());
            let off = x[i] - (self.s[i] * q - self.m[i]);
            sum[i] += weight.map_or(off, |w| w[i] * off) * off;
        }
    }
}
