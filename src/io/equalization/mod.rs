//! Equalization of a model: which layers' factors are folded into the layers before, and what becomes of every tensor.

mod changes;
mod plan;
pub mod table;

pub use changes::{Change, Equalization};
pub use plan::{Fold, Folds};

/// The smallest and the largest factor that is folded: what is divided by it stays far from the ends of a half.
const FOLDED: (f32, f32) = (1.0 / 256.0, 256.0);

/// A factor as it is folded: that of a channel that is never fed, or is fed next to nothing, is held within bounds.
pub fn foldable(factor: f32) -> f32 {
    factor.clamp(FOLDED.0, FOLDED.1)
}

#[cfg(test)]
mod tests;
