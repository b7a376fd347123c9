//! The candidates that the searches consider, for each type of 256. Found by trial on normal rows with a factor per column.

use super::{
    affine::Step::{self as Affine, Fit, Move, Range, Rescale, Round, Shrink},
    symmetric::Step as Symmetric,
};

#[rustfmt::skip]
pub(super) const Q2_K: &[Affine] = &[
    Shrink(0.8, -0.5), Fit, Shrink(0.8, 0.5), Fit, Round(1.0, 1.0), Range, Move(1.0, 0.0), Move(-1.0, 0.0), Rescale,
];

#[rustfmt::skip]
pub(super) const Q4_K: &[Affine] = &[
    Shrink(1.0, 0.0), Fit, Shrink(0.93, 0.0), Fit, Shrink(0.93, -0.5), Fit, Shrink(0.93, 0.5), Fit,
    Round(1.0, 1.0), Range, Rescale, Move(0.0, 1.0), Move(0.0, -1.0), Move(1.0, 1.0), Move(1.0, -1.0), Move(1.0, 0.0),
    Move(-1.0, 0.0), Move(-1.0, 1.0), Move(-1.0, -1.0), Move(2.0, 0.0), Move(-2.0, 0.0), Move(2.0, 2.0),
    Move(2.0, -2.0), Move(-2.0, 2.0), Move(-2.0, -2.0), Move(0.0, 3.0), Move(0.0, -3.0), Rescale,
];

#[rustfmt::skip]
pub(super) const Q5_K: &[Affine] = &[
    Shrink(1.0, 0.0), Fit, Shrink(0.97, 0.0), Fit, Shrink(0.97, -0.5), Fit, Shrink(0.97, 0.5), Fit,
    Round(1.0, 1.0), Range, Move(0.0, 1.0), Move(0.0, -1.0), Move(1.0, 0.0), Move(1.0, 1.0), Move(1.0, -1.0),
    Move(-1.0, 0.0), Move(-1.0, 1.0), Move(-1.0, -1.0), Rescale,
];

#[rustfmt::skip]
pub(super) const Q3_K: &[Symmetric] = {
    use Symmetric::{Fit, Move, Range, Rescale, Round, Shrink};
    &[
        Shrink(1.0), Fit, Shrink(0.87), Fit, Shrink(0.75), Fit, Shrink(-1.0), Fit, Shrink(-0.85), Fit, Round(1.0), Range,
        Move(1.0), Move(-1.0), Rescale,
    ]
};

#[rustfmt::skip]
pub(super) const Q6_K: &[Symmetric] = {
    use Symmetric::{Fit, Move, Range, Rescale, Round, Shrink};
    &[
        Shrink(1.0), Fit, Shrink(0.97), Fit, Shrink(-1.0), Fit, Round(1.0), Range, Move(1.0), Move(-1.0), Rescale,
        Move(1.0), Move(-1.0), Rescale,
    ]
};
