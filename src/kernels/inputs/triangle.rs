//! The upper triangle of a square matrix, row after row: row `i` holds the columns `i` to `n - 1`.

use std::ops::Range;

/// Returns the numbers of a triangle of `n` rows; none where they cannot be counted.
pub fn triangle_len(n: usize) -> Option<usize> {
    n.checked_add(1)?.checked_mul(n).map(|twice| twice / 2)
}

/// Returns the rows of a triangle of `len` numbers; none where `len` is no triangle's.
pub fn triangle_side(len: usize) -> Option<usize> {
    let n = ((len as f64 * 2.0).sqrt()) as usize;
    (n.saturating_sub(1)..=n + 1).find(|n| triangle_len(*n) == Some(len))
}

/// Returns the range of row `i` in a triangle of `n` rows.
#[inline(always)]
pub fn triangle_row(i: usize, n: usize) -> Range<usize> {
    // The rows before it are n, n - 1, ... long.
    let start = i * n - i * i.saturating_sub(1) / 2;
    start..start + n - i
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_each_other_and_the_side_is_found_again() {
        for n in 0..200 {
            let mut end = 0;
            for i in 0..n {
                let row = triangle_row(i, n);
                assert_eq!((row.start, row.len()), (end, n - i));
                end = row.end;
            }
            assert_eq!(triangle_len(n), Some(end));
            assert_eq!(triangle_side(end), Some(n));
            assert_eq!(triangle_side(end + 1), (n == 0).then_some(1));
        }
        assert_eq!((triangle_len(usize::MAX), triangle_side(usize::MAX)), (None, None));
    }
}
