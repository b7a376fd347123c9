//! Reductions over a fixed number of lanes, folded as a tree: the same order, so the same bits, on every CPU.

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

/// Folds each of eight rows to one element, as [`fold`] would, in the instructions of three.
///
/// Eight lanes, not sixteen: the shuffles of two 16-lane registers that LLVM finds for AVX-512 are four times as slow.
#[inline(always)]
pub(super) fn fold_rows(mut rows: [[f32; 8]; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    // Two rows become one: the halves of each fold onto one another, side by side. Rows that are `count / 2` apart meet, so
    // that in the end lane `i` holds row `i`: every round appends a bit to the lane, the highest of the row first.
    let (mut count, mut width) = (8, 8);
    while count > 1 {
        let half = width / 2;
        for k in 0..count / 2 {
            let (a, b) = (rows[k], rows[k + count / 2]);
            let mut folded = [0.0; 8];
            for (j, folded) in folded.iter_mut().enumerate() {
                // Parts of `width` lanes, each of one row.
                let (part, at) = (j / width, j % width);
                let source = if at < half { &a } else { &b };
                let lane = part * width + at % half;
                *folded = f(source[lane], source[lane + half]);
            }
            rows[k] = folded;
        }
        (count, width) = (count / 2, half);
    }
    rows[0]
}

/// The smaller; `b` unless `a < b`. One instruction, where `f32::min` takes three to treat NaN.
#[inline(always)]
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The larger; `b` unless `a > b`.
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
    fn rows_fold_as_each_does() {
        let rows: [[f32; 8]; 8] =
            std::array::from_fn(|i| std::array::from_fn(|j| 0.1 + (i * 31 + j * j) as f32 * 0.37));
        let want = rows.map(|row| fold(row, |a, b| a + b));
        assert_eq!(fold_rows(rows, |a, b| a + b), want);
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
