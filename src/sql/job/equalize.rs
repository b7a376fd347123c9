//! How channels are equalized: the option of a run, and the inputs of the model that it is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
    sync::Arc,
};

use arrow_array::{RecordBatch, StringViewArray};
use datafusion::common::DataFusionError;

use super::{JobError, PlannedJob};
use crate::{
    io::{
        IoError,
        equalization::{Folds, foldable},
    },
    types::{OptionsError, weights::NAME},
};

/// What the factors of channels are made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Equalize {
    /// `SmoothQuant`'s alpha, 0 to 1, for every layer.
    Alpha(f64),
    /// For each layer the alpha of [`Equalize::GRID`] whose expected error is least, or none.
    Auto,
    /// Log equalization, from the activations alone.
    Log,
    /// From the weights alone.
    Weights,
}

impl Equalize {
    /// The alphas that [`Equalize::Auto`] tries.
    pub const GRID: [f64; 11] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];

    /// Refuses Hessians, and what needs activations without them.
    ///
    /// # Errors
    /// It needs activations and has none, or it has Hessians: they are those of inputs as they were.
    pub fn check(self, activations: bool, hessians: bool) -> Result<(), OptionsError> {
        if hessians {
            let problem = "--hessians cannot be used with --equalize: they are those of inputs that are not equalized";
            return Err(OptionsError::new(problem.to_owned()));
        }
        if activations || self == Self::Weights {
            return Ok(());
        }
        let problem = format!("--equalize {self} needs --activations FILE; without activations, --equalize weights");
        Err(OptionsError::new(problem))
    }
}

impl fmt::Display for Equalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alpha(alpha) => alpha.fmt(f),
            Self::Auto => f.write_str("auto"),
            Self::Log => f.write_str("log"),
            Self::Weights => f.write_str("weights"),
        }
    }
}

impl FromStr for Equalize {
    type Err = OptionsError;

    fn from_str(text: &str) -> Result<Self, OptionsError> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("log", _) => Ok(Self::Log),
            ("weights", _) => Ok(Self::Weights),
            (_, Ok(alpha)) if (0.0..=1.0).contains(&alpha) => Ok(Self::Alpha(alpha)),
            _ => Err(OptionsError::new(format!(
                "equalize must be a number from 0 to 1, 'auto', 'log' or 'weights', not '{text}'"
            ))),
        }
    }
}

/// The inputs that a run equalizes.
#[derive(Debug)]
pub struct EqualizedInputs {
    /// What their factors are made of.
    pub(super) by: Equalize,
    /// Which of them can be folded.
    pub(super) folds: Folds,
    /// The input of each layer that is to be equalized, by its name: that of the first layer that takes it.
    pub(super) of_layers: BTreeMap<String, String>,
    /// The layers that are not, by name, and why: those of a format that has no place for factors that cannot be folded.
    pub(super) left_alone: BTreeMap<String, String>,
    /// The norms and biases, by number, that factors may be folded into.
    pub(super) divided_vectors: BTreeSet<usize>,
}

/// Why a job cannot have both equalized channels and goals, whichever was asked for first.
pub(super) fn measured_before() -> JobError {
    let problem = "--equalize cannot be used with --min-sqnr, --target-size or --target-bpw: they measure weights that are not \
                   equalized";
    IoError::Request(problem.to_owned()).into()
}

impl PlannedJob {
    /// Adds the equalization of channels to the job, by the activations that it has or by the weights alone.
    ///
    /// # Errors
    /// There are Hessians or bits chosen by measurement, or no activations where they are needed, or `config.json` cannot be
    /// read.
    pub fn with_equalization(mut self, by: Equalize) -> Result<Self, JobError> {
        let activations = self.activations.as_ref();
        if self.goals.any() {
            return Err(measured_before());
        }
        let possible = by.check(activations.is_some(), self.factors.is_some());
        possible.map_err(|error| IoError::Request(error.to_string()))?;
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
        Ok(self)
    }
}

impl PlannedJob {
    /// The input of each layer that is to be equalized, by its name.
    pub(super) fn inputs(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.equalized.as_ref().map_or(&NONE, |equalized| &equalized.of_layers)
    }

    /// The same as the table `inputs` of the recipes.
    pub(super) fn inputs_batch(&self) -> Result<RecordBatch, JobError> {
        let columns = [self.inputs().keys().collect::<Vec<_>>(), self.inputs().values().collect()];
        let [names, inputs] = columns.map(|column| Arc::new(StringViewArray::from_iter_values(column)) as _);
        Ok(RecordBatch::try_from_iter([(NAME, names), ("input", inputs)]).map_err(DataFusionError::from)?)
    }

    /// The layers that are to be equalized, by number.
    pub(super) fn equalized_tensors(&self) -> Vec<usize> {
        let mut tensors: Vec<usize> = self.inputs().keys().filter_map(|name| self.model.number_of(name)).collect();
        tensors.sort_unstable();
        tensors
    }
}

impl EqualizedInputs {
    /// The factors of an input as they are used.
    pub(super) fn used(&self, job: &PlannedJob, input: &str, mut factors: Vec<f32>) -> Vec<f32> {
        if let Some(fold) = job.model.number_of(input).and_then(|number| self.folds.of(number)) {
            foldable(&mut factors, fold.adds_one());
        }
        factors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_says_what_is_accepted() {
        for (text, expected) in [
            ("0.5", Equalize::Alpha(0.5)),
            ("auto", Equalize::Auto),
            ("log", Equalize::Log),
            ("weights", Equalize::Weights),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string(), text);
        }
        for text in ["1.5", "-1", "NaN", "", "max"] {
            let error = text.parse::<Equalize>().unwrap_err().to_string();
            let expected = "equalize must be a number from 0 to 1, 'auto', 'log' or 'weights', not";
            assert_eq!(error, format!("{expected} '{text}'"));
        }
    }
}
