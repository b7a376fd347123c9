//! What a run makes of activations: a quantizer per layer and group of timesteps, and factors that equalize channels.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use arrow_array::{RecordBatch, StringViewArray};
use datafusion::{
    common::{ParamValues, ScalarValue},
    datasource::file_format::options::ParquetReadOptions,
};

use super::{
    Cancel, Equalize, JobError, PlannedJob,
    factors::{Factors, collect, lists, replace},
};
use crate::{
    io::{
        Equalization, IoError,
        activations::check_activations,
        choice::choices_batch,
        equalization::{Fold, Folds, foldable},
    },
    sql::{Session, recipes, tables::WeightsTable},
    types::{
        ActivationBits, TimeMethod,
        activations::activation_params_schema,
        equalization::{FACTORS, INPUT_SCALE},
        weights::NAME,
    },
};

/// What to do with the activations of a model.
#[derive(Debug, Clone)]
pub struct ActivationOptions {
    /// The Parquet file that holds them.
    pub file: PathBuf,
    /// Groups of timesteps, at most.
    pub time_groups: u32,
    /// How time is cut.
    pub time_method: TimeMethod,
    /// Bits per activation.
    pub bits: ActivationBits,
    /// Whether zero points are the middle code.
    pub symmetric: bool,
    /// Whether, and how far, channels are equalized before.
    pub equalize: Option<Equalize>,
}

/// Activations that were held against the model.
#[derive(Debug)]
pub struct CheckedActivations {
    options: ActivationOptions,
    digest: String,
    /// The mean square of each input channel over all tokens.
    pub(super) mean_squares: BTreeMap<String, Vec<f64>>,
    /// Which inputs can be folded.
    folds: Folds,
    /// The input of each layer that is to be equalized, by its name: that of the first layer that takes it.
    pub(super) inputs: BTreeMap<String, String>,
    /// The norms and biases, by number, that factors may be folded into.
    pub(super) divided_vectors: BTreeSet<usize>,
}

/// What a run writes beside the weights.
#[derive(Debug, Clone)]
pub struct PreparedActivations {
    /// The activation quantizers.
    pub params: RecordBatch,
    /// What equalization makes of each tensor; none unless asked for.
    pub equalization: Option<Equalization>,
    /// The layers with activations that are not equalized, by name, and why: those of a format that has no place for
    /// factors that cannot be folded.
    pub left_alone: BTreeMap<String, String>,
}

impl PlannedJob {
    /// Reads and checks the activations for this model, and adds what is to be made of them to the job.
    ///
    /// # Errors
    /// The file cannot be read, or does not fit the model: see [`check_activations`].
    pub fn with_activations(mut self, options: ActivationOptions) -> Result<Self, JobError> {
        if self.factors.is_some() && options.equalize.is_some() {
            let problem = "--equalize cannot be used with --hessians: they are those of inputs that are not equalized";
            return Err(IoError::Request(problem.to_owned()).into());
        }
        let checked = check_activations(&options.file, &self.model)?;
        let (digest, mean_squares) = (checked.digest, checked.mean_squares);
        let mut checked = CheckedActivations {
            options,
            digest,
            mean_squares,
            folds: Folds::default(),
            inputs: BTreeMap::new(),
            divided_vectors: BTreeSet::new(),
        };
        if checked.equalizes() {
            checked.folds = Folds::plan(&self.model, &self.choices)?;
            let name = |number: usize| self.model.tensors()[number].name.clone();
            let input = |number: usize| match checked.folds.of(number) {
                Some(fold) => Some((name(number), name(fold.consumers[0]))),
                // Other programs know of no scales.
                None if self.export.is_some() => None,
                None => Some((name(number), name(number))),
            };
            let inputs = self.equalizable(&checked).filter_map(|(number, _)| input(number));
            checked.inputs = inputs.collect();
            let folds = self.equalizable(&checked).filter_map(|(number, _)| checked.folds.of(number));
            let is_vector = |number: &usize| self.model.tensors()[*number].shape.len() == 1;
            checked.divided_vectors = folds.flat_map(Fold::producers).filter(is_vector).collect();
        }
        self.activations = Some(checked);
        Ok(self)
    }

    /// The quantized tensors whose input has no activations: their input will have no quantizer.
    pub fn without_activations(&self) -> Vec<&str> {
        let Some(activations) = &self.activations else { return Vec::new() };
        let quantized = self.model.tensors().iter().zip(&self.choices).filter(|(_, choice)| choice.options.is_some());
        quantized
            .map(|(tensor, _)| tensor.name.as_str())
            .filter(|name| !activations.mean_squares.contains_key(*name))
            .collect()
    }

    /// The quantized matrices whose input has activations.
    fn equalizable<'a>(&'a self, checked: &'a CheckedActivations) -> impl Iterator<Item = (usize, &'a str)> {
        let tensors = self.model.tensors().iter().zip(&self.choices).enumerate();
        let tensors = tensors.filter(|(_, (tensor, choice))| choice.options.is_some() && tensor.shape.len() == 2);
        tensors
            .map(|(number, (tensor, _))| (number, tensor.name.as_str()))
            .filter(|(_, name)| checked.mean_squares.contains_key(*name))
    }
}

impl CheckedActivations {
    /// Whether channels are equalized.
    pub fn equalizes(&self) -> bool {
        self.options.equalize.is_some()
    }

    /// The mean square of each input channel over all tokens, by the name of the tensor.
    pub const fn mean_squares(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.mean_squares
    }

    /// The options, for a manifest to record.
    pub fn describe(&self) -> serde_json::Value {
        let options = &self.options;
        serde_json::json!({
            "digest": self.digest,
            "time_groups": options.time_groups,
            "time_method": options.time_method.name(),
            "bits": options.bits.get(),
            "symmetric": options.symmetric,
            "equalize": options.equalize.map(|equalize| equalize.to_string()),
        })
    }

    /// Runs the recipes on activations and, where channels are equalized, the weights.
    pub(super) fn prepare(
        &self,
        job: &PlannedJob,
        threads: usize,
        runtime: &tokio::runtime::Handle,
        cancel: &Cancel,
    ) -> Result<PreparedActivations, JobError> {
        let session = runtime.block_on(self.session(job, threads))?;
        let factors = match self.options.equalize {
            None => None,
            Some(_) if self.inputs.is_empty() => Some(Factors::new()),
            Some(Equalize::Alpha(alpha)) => {
                Some(runtime.block_on(self.factors(job, &session, &[Some(alpha)]))?.remove(0))
            }
            Some(Equalize::Log) => Some(runtime.block_on(self.factors(job, &session, &[None]))?.remove(0)),
            Some(Equalize::Auto) => Some(self.choose(job, &session, threads, runtime, cancel)?),
        };
        let params = runtime.block_on(self.params(&session, factors.as_ref().unwrap_or(&Factors::new())))?;
        let mut left_alone = BTreeMap::new();
        if self.equalizes() {
            for (number, name) in job.equalizable(self) {
                if !self.inputs.contains_key(name) {
                    left_alone.insert(name.to_owned(), self.folds.reason(number).to_owned());
                }
            }
        }
        let equalization = factors.map(|factors| Equalization::new(&job.model, &self.folds, &factors));
        Ok(PreparedActivations { params, equalization, left_alone })
    }

    /// A session with the tables `layers`, `inputs` and `activations`, the latter of the quantized layers alone.
    pub(super) async fn session(&self, job: &PlannedJob, threads: usize) -> Result<Session, JobError> {
        let session = Session::new(threads)?;
        replace(&session, "choices", choices_batch(&job.model, &job.choices)?)?;
        let (names, inputs) = (self.inputs.keys(), self.inputs.values());
        let columns = [names.collect::<Vec<_>>(), inputs.collect()];
        let [names, inputs] = columns.map(|column| Arc::new(StringViewArray::from_iter_values(column)) as _);
        let inputs = RecordBatch::try_from_iter([(NAME, names), ("input", inputs)]);
        replace(&session, "inputs", inputs.map_err(datafusion::common::DataFusionError::from)?)?;
        session.context().register_table("layers", Arc::new(WeightsTable::new(Arc::clone(&job.model))))?;
        let path = &self.options.file;
        let text = path.to_str().ok_or_else(|| IoError::file(path, "the path must be valid UTF-8"))?;
        // Whatever the file is called.
        let options = ParquetReadOptions::default().file_extension("");
        session.context().register_parquet("calibration", text, options).await?;
        let view = "SELECT calibration.* FROM calibration JOIN choices ON calibration.name = choices.name \
                    WHERE bits IS NOT NULL";
        let view = session.sql(view).await?.into_view();
        session.context().register_table("activations", view)?;
        Ok(session)
    }

    /// `sql/time_groups.sql`, with the factors of these inputs.
    pub(super) async fn params(&self, session: &Session, factors: &Factors) -> Result<RecordBatch, JobError> {
        let layers = || self.inputs.iter().filter_map(|(name, input)| Some((name, factors.get(input)?)));
        let scales: Vec<Vec<f32>> =
            layers().map(|(_, list)| list.iter().map(|factor| 1.0 / factor).collect()).collect();
        let batch = RecordBatch::try_from_iter([
            (NAME, Arc::new(StringViewArray::from_iter_values(layers().map(|(name, _)| name))) as _),
            (FACTORS, Arc::new(lists(layers().map(|(_, list)| list))) as _),
            (INPUT_SCALE, Arc::new(lists(scales.iter())) as _),
        ]);
        replace(session, "factors", batch.map_err(datafusion::common::DataFusionError::from)?)?;
        let options = &self.options;
        let parameters = ParamValues::from(vec![
            ("groups", ScalarValue::from(i64::from(options.time_groups))),
            ("method", ScalarValue::from(options.time_method.name())),
            ("bits", ScalarValue::from(i64::from(options.bits.get()))),
            ("symmetric", ScalarValue::from(options.symmetric)),
        ]);
        let frame = session.sql(recipes::TIME_GROUPS.sql).await?.with_param_values(parameters)?;
        collect(frame, &activation_params_schema()).await
    }

    /// The factors of an input as they are used.
    pub(super) fn used(&self, job: &PlannedJob, input: &str, mut factors: Vec<f32>) -> Vec<f32> {
        if let Some(fold) = job.model.number_of(input).and_then(|number| self.folds.of(number)) {
            foldable(&mut factors, fold.adds_one());
        }
        factors
    }
}
