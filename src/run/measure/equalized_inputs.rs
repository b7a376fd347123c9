//! The inputs of a model whose channels a run equalizes, and their factors.

use std::collections::{BTreeMap, BTreeSet};

use crate::{plan::equalization::folds::Folds, types::Equalize};

/// The factors of each input, by name.
pub type Factors = BTreeMap<String, Vec<f32>>;

/// The inputs that a run equalizes.
#[derive(Debug)]
pub struct EqualizedInputs {
    /// The method that makes their factors.
    pub(in crate::run) by: Equalize,
    /// The inputs that can be folded.
    pub(in crate::run) folds: Folds,
    /// The input of each layer that is to be equalized, by its name: that of the first layer that takes it.
    pub(in crate::run) of_layers: BTreeMap<String, String>,
    /// The layers that are not, by name, and why: those of a format that has no place for factors that cannot be folded.
    pub(in crate::run) left_alone: BTreeMap<String, String>,
    /// The norms and biases, by number, that factors may be folded into.
    pub(in crate::run) divided_vectors: BTreeSet<usize>,
}
