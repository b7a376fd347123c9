//! `ConvRot`: a Hadamard rotation of runs of a row, which is its own inverse.

use crate::kernels::dispatch::kernel;

#[inline(always)]
fn turned([a, b, c, d]: [f32; 4]) -> [f32; 4] {
    let (sum, difference, left, right) = (a + b, a - b, c - d, c + d);
    [sum + left, sum - left, difference + right, right - difference]
}

/// Rotates one digit, base 4, of the places in a run.
#[inline(always)]
fn digit(run: &mut [f32], stride: usize) {
    for block in run.chunks_exact_mut(4 * stride) {
        let (a, rest) = block.split_at_mut(stride);
        let (b, rest) = rest.split_at_mut(stride);
        let (c, d) = rest.split_at_mut(stride);
        for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
            [*a, *b, *c, *d] = turned([*a, *b, *c, *d]);
        }
    }
}

kernel! {
    /// Rotates every run of `size` weights, a power of 4, in place; shorter runs stay. Sums of integers are exact up to 2^24.
    ///
    /// ```
    /// let mut row = [16.0, 0.0, 0.0, 0.0];
    /// arrow_quant::kernels::comfy::rotate(&mut row, 4);
    /// assert_eq!(row, [8.0, 8.0, 8.0, -8.0]);
    /// arrow_quant::kernels::comfy::rotate(&mut row, 4);
    /// assert_eq!(row, [16.0, 0.0, 0.0, 0.0]);
    /// ```
    pub fn rotate(row: &mut [f32], size: usize) {
        for run in row.chunks_exact_mut(size.max(4)) {
            for quad in run.as_chunks_mut::<4>().0 {
                *quad = turned(*quad);
            }
            let mut stride = 4;
            let mut factor = 0.5;
            while stride < size {
                digit(run, stride);
                stride *= 4;
                factor *= 0.5;
            }
            for x in run.iter_mut() {
                *x *= factor;
            }
        }
    }
}
