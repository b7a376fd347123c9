//! The changes that equalization makes to the tensors of a model, and the table of them that the recipes join.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{ArrayRef, ListViewArray, RecordBatch, StringViewArray};

use super::{
    change::{Change, lists},
    folds::Folds,
};
use crate::{
    model::Model,
    storage::{digest::Digest, error::IoError},
    types::equalization::changes_schema,
};

/// The changes of the tensors of a model, by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Equalization {
    pub(super) changes: BTreeMap<String, Change>,
    /// True if the error of the original weights is to be least, false if that of the changed weights is.
    pub(super) for_weights: bool,
}

impl Equalization {
    /// Makes the changes from the factors of these inputs: folded where they can be, for run time where they cannot. An input
    /// has the name of the first layer that takes it. With `for_weights` the error of the weights as they were is to be
    /// least: an importance for each channel says so.
    pub fn new(model: &Model, folds: &Folds, factors: &BTreeMap<String, Vec<f32>>, for_weights: bool) -> Self {
        let mut all = Self { for_weights, ..Self::default() };
        for (input, factors) in factors {
            match model.number_of(input).and_then(|number| folds.of(number)) {
                None => {
                    let change = all.changes.entry(input.clone()).or_default();
                    change.input_scale = Some(factors.iter().map(|factor| 1.0 / factor).collect());
                    change.factors = Some(factors.clone());
                }
                Some(fold) => {
                    let name = |number: usize| model.tensors()[number].name.clone();
                    let consumers: Vec<String> = fold.consumers.iter().map(|number| name(*number)).collect();
                    let mut into: Vec<String> = Vec::new();
                    for segment in &fold.producers {
                        let tensor = &model.tensors()[segment.tensor];
                        let change = all.changes.entry(tensor.name.clone()).or_default();
                        change.divide(*segment, tensor.rows, tensor.row_length, factors);
                        if change.carries.last() != consumers.last() {
                            change.carries.extend(consumers.iter().cloned());
                        }
                        if !into.contains(&tensor.name) {
                            into.push(tensor.name.clone());
                        }
                    }
                    for consumer in consumers {
                        let change = all.changes.entry(consumer).or_default();
                        change.factors = Some(factors.clone());
                        change.folded_into.clone_from(&into);
                    }
                }
            }
        }
        all
    }

    /// Returns the change of a tensor, if there is one.
    pub fn of(&self, name: &str) -> Option<&Change> {
        self.changes.get(name)
    }

    /// Returns the layers whose factors were folded.
    pub fn folded(&self) -> usize {
        self.changes.values().filter(|change| !change.folded_into.is_empty()).count()
    }

    /// Returns the layers whose input is to be scaled at run time.
    pub fn scaled(&self) -> usize {
        self.changes.values().filter(|change| change.input_scale.is_some()).count()
    }

    /// Returns a digest of what becomes of every tensor: another one is that of other factors.
    pub fn digest(&self) -> String {
        let mut digest = Digest::default();
        for (name, change) in &self.changes {
            // Lengths go before what they are the lengths of, so that no two equalizations give the same bytes.
            digest.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            for list in [&change.factors, &change.row_factors, &change.offsets, &change.input_scale] {
                let length = list.as_ref().map_or(u64::MAX, |list| list.len() as u64);
                let bytes: Vec<u8> = list.iter().flatten().flat_map(|value| value.to_le_bytes()).collect();
                digest.update(&length.to_le_bytes()).update(&bytes);
            }
        }
        digest.hex()
    }

    /// Returns the same by other names, where `name` gives one.
    ///
    /// # Errors
    /// Returns the errors of `name`.
    pub fn renamed(self, name: impl Fn(&str) -> Result<Option<String>, IoError>) -> Result<Self, IoError> {
        let one = |(old, change): (String, Change)| Ok((name(&old)?.unwrap_or(old), change));
        Ok(Self { changes: self.changes.into_iter().map(one).collect::<Result<_, IoError>>()?, ..self })
    }

    /// Returns the table of [`changes_schema`], one row for each tensor of the model that is changed; `stored_as` says
    /// what one is stored as that is not quantized, be it changed or not.
    ///
    /// # Errors
    /// Returns an error if a list has another length than the tensor of its name.
    pub fn table(&self, model: &Model, stored_as: impl Fn(usize) -> Option<String>) -> Result<RecordBatch, IoError> {
        let unchanged = Change::default();
        let mut names = Vec::new();
        let mut rows: [Vec<Vec<f32>>; 6] = Default::default();
        let (mut importances, mut stored) = (Vec::new(), Vec::new());
        for (number, tensor) in model.tensors().iter().enumerate() {
            let (change, stored_as) = (self.of(&tensor.name), stored_as(number));
            if change.is_none() && stored_as.is_none() {
                continue;
            }
            let lists = change.unwrap_or(&unchanged).filled(tensor.rows, tensor.row_length);
            let lists = lists.map_err(|problem| IoError::tensor(model.folder(), &tensor.name, problem))?;
            let back_factors = change.filter(|change| self.for_weights && change.factors.is_some()).map(|_| &lists[3]);
            importances.push(back_factors.map(|factors| factors.iter().map(|factor| factor * factor).collect()));
            rows.iter_mut().zip(lists).for_each(|(rows, list)| rows.push(list));
            names.push(tensor.name.as_str());
            stored.push(stored_as);
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(StringViewArray::from_iter_values(names))];
        for rows in &rows {
            columns.push(Arc::new(ListViewArray::from(lists(rows.iter().map(Some)))));
        }
        columns.push(Arc::new(ListViewArray::from(lists(importances.iter().map(Option::as_ref)))));
        columns.push(Arc::new(stored.into_iter().collect::<StringViewArray>()));
        RecordBatch::try_new(changes_schema(), columns).map_err(IoError::arrow(model.folder()))
    }
}
