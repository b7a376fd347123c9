//! The candidates that the search considers, at each width.

/// The step that makes the next candidate.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// The range, the scale rounded up: what [`minmax`](fn@super::minmax::minmax) starts from.
    Cover,
    /// The range shrunk, leaning to an end.
    Shrink(f32, f32),
    /// The fit to the candidate before.
    Fit,
    /// The fit to the best candidate.
    Refit,
    /// The best candidate, scale code and zero point moved.
    Move(i32, f32),
}

/// Returns the candidates at each width, with zero points and without.
///
/// Found by a random walk that changed, moved and replaced single steps and kept what lowered the error, in groups of 16 to
/// whole rows, by both grids. The rows were normal, Laplace and Student-t, some with factors for channels or of one sign, and
/// rows of all-MiniLM-L6-v2 and of the digits transformer. Fits go down to a local minimum; moves leave it. The first
/// two steps stay: they make the search never worse than [`minmax`](fn@super::minmax::minmax). The tests hold all to within
/// 0.1 dB of all pairs of codes, for groups of 32 of [`TwoLevel`](super::TwoLevel), on rows of other seeds.
#[rustfmt::skip]
#[inline(always)]
pub(super) fn schedule<const BITS: usize>(symmetric: bool) -> &'static [Step] {
    use Step::{Cover, Fit, Move, Refit, Shrink};
    match (symmetric, BITS) {
        (false, 2) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.81, -0.87), Refit, Move(-2, -0.34), Fit, Refit, Move(0, -0.65), Fit,
            Move(1, 0.25), Fit, Fit, Refit, Move(0, 0.61), Fit, Move(-1, -0.12), Fit, Shrink(0.78, 0.8), Fit, Fit,
            Move(-2, 0.05), Fit, Fit, Move(2, -0.02), Fit, Fit,
        ],
        (false, 3) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.63, 0.0), Move(2, 0.46), Move(2, -0.39), Refit, Shrink(0.92, -0.86),
            Fit, Shrink(0.93, 1.16), Fit, Move(-2, -0.06), Fit, Move(1, 0.01), Move(-1, 0.87), Shrink(0.88, 0.06),
            Fit, Move(-2, -0.59), Fit, Move(0, 0.13), Fit, Move(0, -0.09), Fit, Move(-1, 0.04), Refit,
        ],
        (false, _) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.73, -0.16), Move(-1, 0.26), Refit, Move(2, 0.26), Fit,
            Move(-2, -0.43), Move(2, -0.39), Fit, Move(-2, 0.35), Move(-1, -0.86), Move(-1, -0.13), Move(0, 0.11),
            Move(1, -0.1), Fit, Shrink(0.96, 0.8), Fit, Move(1, 0.09), Refit, Move(-1, 0.03), Fit, Move(0, 0.04),
            Move(0, -0.04),
        ],
        (true, 2) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.33, 0.0), Shrink(0.21, 0.0), Fit, Shrink(0.64, 0.0),
            Shrink(0.81, 0.0), Refit, Move(3, 0.0), Shrink(0.44, 0.0), Shrink(0.51, 0.0), Move(2, 0.0),
            Move(-2, 0.0), Move(-4, 0.0), Move(-1, 0.0), Move(1, 0.0), Refit,
        ],
        (true, 3) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.38, 0.0), Move(-1, 0.0), Move(6, 0.0), Shrink(0.62, 0.0),
            Move(-3, 0.0), Move(2, 0.0), Refit, Shrink(0.78, 0.0), Shrink(0.82, 0.0), Shrink(0.72, 0.0), Fit,
            Move(-1, 0.0), Shrink(0.87, 0.0), Move(1, 0.0), Refit,
        ],
        (true, _) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.6, 0.0), Shrink(1.14, 0.0), Move(-2, 0.0), Refit, Move(-3, 0.0),
            Move(3, 0.0), Move(-1, 0.0), Shrink(0.9, 0.0), Refit, Move(2, 0.0), Shrink(0.85, 0.0), Move(1, 0.0),
            Shrink(0.95, 0.0), Move(-1, 0.0), Refit,
        ],
    }
}
