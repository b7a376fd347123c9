//! Equalization of a model: which layers' factors are folded into the layers before, and what becomes of every tensor.

pub mod architectures;
pub mod change;
pub mod changes;
mod file;
pub mod folds;
pub mod lineage;

/// The smallest and the largest factor that is folded: what is divided by it stays far from the ends of a half.
const FOLDED: (f32, f32) = (1.0 / 256.0, 256.0);

/// The smallest factor beside a largest of 1 to 2, for the same reason.
const LEAST: f32 = 1.0 / 4096.0;

/// Factors as they are folded: that of a channel that is never fed, or is fed next to nothing, is held within bounds.
///
/// Factors of one input are free up to a number that they share: the scales of rows and of activations take it up. Where 1
/// is added to what is divided by them, they are divided by a power of two so that the largest of them is at least 1 and
/// less than 2. What is stored and computed there is `(1 + scale) / factor - 1`: of a large factor that is near -1, and
/// rounded to a half it loses as many bits as the factor has; of one below 1 nothing is lost that adding the 1 does not lose
/// anyhow. A power of two changes no code.
pub fn foldable(factors: &mut [f32], adds_one: bool) {
    for factor in factors.iter_mut() {
        *factor = factor.clamp(FOLDED.0, FOLDED.1);
    }
    if adds_one {
        let most = factors.iter().copied().fold(0.0, f32::max);
        // Its exponent alone: the largest power of two that is not above it.
        let unit = f32::from_bits(most.to_bits() & 0xff80_0000);
        for factor in factors.iter_mut() {
            *factor = (*factor / unit).max(LEAST);
        }
    }
}

#[cfg(test)]
mod tests;
