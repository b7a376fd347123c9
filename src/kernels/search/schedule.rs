//! Which candidates the search considers, at each width.

/// How the next candidate is made.
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

/// The candidates at each width, with zero points and without. Found by trial on normal, Laplace and Student-t rows
/// against all pairs of codes; the tests hold them to within 0.1 dB of that.
#[rustfmt::skip]
#[inline(always)]
pub(super) fn schedule<const BITS: usize>(symmetric: bool) -> &'static [Step] {
    use Step::{Cover, Fit, Move, Refit, Shrink};
    match (symmetric, BITS) {
        (false, 2) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.85, -0.5), Fit, Shrink(0.85, 0.5), Fit, Shrink(0.7, -0.5), Fit,
            Shrink(0.7, 0.0), Fit, Shrink(0.7, 0.5), Fit, Shrink(0.55, -0.5), Fit, Shrink(0.55, 0.0), Fit,
            Shrink(0.55, 0.5), Fit, Refit, Move(1, 0.0), Move(-1, 0.0), Move(0, 0.12), Move(0, -0.12),
            Move(2, 0.0), Move(-2, 0.0), Move(0, 0.06), Move(0, -0.06),
        ],
        (false, 3) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.9, -0.4), Fit, Shrink(0.9, 0.4), Fit, Shrink(0.75, 0.0), Fit,
            Shrink(0.75, -0.5), Fit, Shrink(0.75, 0.5), Fit, Move(0, 0.3), Move(0, -0.3), Move(1, 0.0),
            Move(1, 0.3), Move(1, -0.3), Move(-1, 0.0), Move(-1, 0.3), Move(-1, -0.3), Move(0, 0.15),
            Move(0, -0.15), Move(0, 0.1), Move(0, -0.1),
        ],
        (false, _) => &[
            Cover, Shrink(1.0, 0.0), Shrink(0.95, 0.0), Fit, Move(0, 0.33), Move(0, -0.33), Move(1, 0.0),
            Move(1, 0.33), Move(1, -0.33), Move(-1, 0.0), Move(-1, 0.33), Move(-1, -0.33), Move(2, 0.0),
            Move(2, 0.33), Move(2, -0.33), Move(-2, 0.0), Move(-2, 0.33), Move(-2, -0.33), Move(0, 0.15),
            Move(0, -0.15), Move(1, 0.0), Move(-1, 0.0), Refit, Move(0, 0.1), Move(0, -0.1),
        ],
        (true, 2) => &[
            Cover, Shrink(1.0, 0.0), Fit, Shrink(0.85, 0.0), Fit, Shrink(0.7, 0.0), Fit, Shrink(0.58, 0.0), Fit,
            Shrink(0.48, 0.0), Fit, Shrink(0.4, 0.0), Fit, Shrink(0.33, 0.0), Fit, Refit, Move(1, 0.0),
            Move(-1, 0.0),
        ],
        (true, 3) => &[
            Cover, Shrink(1.0, 0.0), Fit, Shrink(0.92, 0.0), Fit, Shrink(0.84, 0.0), Fit, Shrink(0.76, 0.0),
            Fit, Shrink(0.68, 0.0), Fit, Shrink(0.6, 0.0), Fit, Refit, Move(1, 0.0), Move(-1, 0.0),
        ],
        (true, _) => &[
            Cover, Shrink(1.0, 0.0), Fit, Shrink(0.95, 0.0), Fit, Shrink(0.9, 0.0), Fit, Shrink(0.85, 0.0), Fit,
            Shrink(0.8, 0.0), Fit, Shrink(0.75, 0.0), Fit, Refit, Move(1, 0.0), Move(-1, 0.0),
        ],
    }
}
