//! Reductions over a fixed number of lanes, folded as a tree: the same order, so the same bits, on every CPU.

use std::hint::black_box;

/// Folds lanes `i` and `i + N/2` until one is left. `N` must be a power of two.
#[inline(always)]
pub(super) fn fold<T: Copy, const N: usize>(mut lanes: [T; N], f: impl Fn(T, T) -> T) -> T {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = f(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Takes one step of [`fold`]: lane `i` with lane `i + H`. A loop over the steps would keep the lanes in memory.
#[inline(always)]
pub(super) fn halve<T: Copy, const N: usize, const H: usize>(lanes: &[T; N], f: impl Fn(T, T) -> T) -> [T; H] {
    std::array::from_fn(|i| f(lanes[i], lanes[i + H]))
}

/// Returns the smaller; `b` unless `a < b`. One instruction, where `f32::min` takes three to treat NaN.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// Returns the larger; `b` unless `a > b`.
#[inline(always)]
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Calls `f(lane, element)` for every element, element `i` in lane `i % N`.
#[inline(always)]
pub(super) fn each<T: Copy, const N: usize>(row: &[T], mut f: impl FnMut(usize, T)) {
    let (chunks, rest) = row.as_chunks::<N>();
    for chunk in chunks {
        for (lane, &element) in chunk.iter().enumerate() {
            f(lane, element);
        }
    }
    for (lane, &element) in rest.iter().enumerate() {
        f(lane, element);
    }
}

/// Calls `f(lane, a, b)` for every pair of elements, pair `i` in lane `i % N`.
#[inline(always)]
pub(super) fn each_pair<T: Copy, const N: usize>(a: &[T], b: &[T], mut f: impl FnMut(usize, T, T)) {
    let (a_chunks, a_rest) = a.as_chunks::<N>();
    let (b_chunks, b_rest) = b.as_chunks::<N>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..N {
            f(lane, a[lane], b[lane]);
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        f(lane, a, b);
    }
}

/// Returns all bits where `a` is less than `b`, none elsewhere.
///
/// The compiler must not know that they come of a comparison: it would make masked stores of [`replace`], which take an AMD
/// processor some twenty operations each, a quarter of the searches.
#[inline(always)]
pub(super) fn less<const N: usize>(a: &[f32; N], b: &[f32; N]) -> [u32; N] {
    let mut bits = [0; N];
    for i in 0..N {
        bits[i] = u32::from(a[i] < b[i]).wrapping_neg();
    }
    black_box(bits)
}

/// Replaces the lanes of `old` whose bits are set. A select by `if` becomes a choice between two addresses here, made lane
/// by lane, and took half of the search of small blocks.
#[inline(always)]
pub(super) fn replace<const N: usize>(old: &mut [f32; N], new: &[f32; N], bits: &[u32; N]) {
    for i in 0..N {
        old[i] = f32::from_bits(new[i].to_bits() & bits[i] | old[i].to_bits() & !bits[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_fold_as_a_tree() {
        let text = ["a", "b", "c", "d"].map(String::from);
        let order = fold([0usize, 1, 2, 3], |a, b| a * 10 + b);
        assert_eq!(order, 2 * 10 + 13, "{text:?}: (a c) (b d)");
    }

    #[test]
    fn halving_is_a_step_of_folding() {
        let lanes: [u32; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        assert_eq!(halve(&lanes, |a, b| a | b), [0x11, 0x22, 0x44, 0x88]);
    }

    #[test]
    fn every_element_is_seen_once_and_in_its_lane() {
        for n in 0..40u32 {
            let row: Vec<u32> = (0..n).collect();
            let mut seen = Vec::new();
            each::<_, 8>(&row, |lane, element| {
                assert_eq!(lane, element as usize % 8);
                seen.push(element);
            });
            assert_eq!(seen, row);
        }
    }
}
