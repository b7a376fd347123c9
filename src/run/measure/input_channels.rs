//! The inputs of a model whose channels a run equalizes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow_array::{RecordBatch, StringViewArray};
use datafusion::common::DataFusionError;

use super::equalized_inputs::EqualizedInputs;
use crate::{
    plan::equalization::{foldable, folds::Folds},
    run::{RunError, plan::Plan},
    types::{Equalize, weights::NAME},
};

impl Plan {
    /// Finds the inputs whose channels are equalized, where the spec asks for it: those of layers with activations, or all if
    /// the weights alone are used.
    ///
    /// # Errors
    /// Returns an error if `config.json` cannot be read.
    pub(in crate::run) fn find_equalized_inputs(&mut self) -> Result<(), RunError> {
        let Some(by) = self.spec.equalize else { return Ok(()) };
        let activations = self.activations.as_ref();
        let folds = Folds::plan(&self.model, &self.choices)?;
        let name = |number: usize| self.model.tensors()[number].name.clone();
        let is_vector = |number: &usize| self.model.tensors()[*number].shape.len() == 1;
        let fed = |number: usize| {
            by == Equalize::Weights
                || activations.is_some_and(|activations| activations.mean_squares().contains_key(&name(number)))
        };
        let tensors = self.model.tensors().iter().zip(&self.choices).enumerate();
        let matrices = tensors.filter(|(_, (tensor, choice))| choice.options.is_some() && tensor.shape.len() == 2);
        let (mut of_layers, mut left_alone) = (BTreeMap::new(), BTreeMap::new());
        let mut divided_vectors = BTreeSet::new();
        for (number, _) in matrices.filter(|(number, _)| fed(*number)) {
            match folds.of(number) {
                Some(fold) => {
                    of_layers.insert(name(number), name(fold.consumers[0]));
                    divided_vectors.extend(fold.producers().filter(is_vector));
                }
                // Other programs know of no scales.
                None if self.export.is_some() => drop(left_alone.insert(name(number), folds.reason(number).to_owned())),
                None => drop(of_layers.insert(name(number), name(number))),
            }
        }
        self.equalized = Some(EqualizedInputs { by, folds, of_layers, left_alone, divided_vectors });
        Ok(())
    }
}

impl Plan {
    /// Returns the input of each layer that is to be equalized, by its name.
    pub(in crate::run) fn inputs(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.equalized.as_ref().map_or(&NONE, |equalized| &equalized.of_layers)
    }

    /// Returns the same as the table `inputs` of the recipes.
    pub(in crate::run) fn inputs_batch(&self) -> Result<RecordBatch, RunError> {
        let columns = [self.inputs().keys().collect::<Vec<_>>(), self.inputs().values().collect()];
        let [names, inputs] = columns.map(|column| Arc::new(StringViewArray::from_iter_values(column)) as _);
        Ok(RecordBatch::try_from_iter([(NAME, names), ("input", inputs)]).map_err(DataFusionError::from)?)
    }

    /// Returns the layers that are to be equalized, by number.
    pub(in crate::run) fn equalized_tensors(&self) -> Vec<usize> {
        let mut tensors: Vec<usize> = self.inputs().keys().filter_map(|name| self.model.number_of(name)).collect();
        tensors.sort_unstable();
        tensors
    }
}

impl EqualizedInputs {
    /// Returns the factors of an input as they are used.
    pub(in crate::run) fn used(&self, plan: &Plan, input: &str, mut factors: Vec<f32>) -> Vec<f32> {
        if let Some(fold) = plan.model.number_of(input).and_then(|number| self.folds.of(number)) {
            foldable(&mut factors, fold.adds_one());
        }
        factors
    }
}
