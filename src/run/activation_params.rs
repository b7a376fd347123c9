//! The tables that a run makes of activations: a quantizer per layer and group of timesteps, and factors that equalize channels.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringViewArray};
use datafusion::{
    common::{ParamValues, ScalarValue},
    datasource::file_format::options::ParquetReadOptions,
};

use super::{
    JobError,
    checked_activations::CheckedActivations,
    equalized_inputs::Factors,
    plan::PlannedJob,
    tables::{collect, lists, replace},
};
use crate::{
    plan::{activations_file::check_activations, choices_table::choices_batch},
    sql::{Session, recipes},
    storage::error::IoError,
    types::{activations::activation_params_schema, equalization::INPUT_SCALE, weights::NAME},
};

impl PlannedJob {
    /// Reads the activations, where the spec names a file, and checks them against the model.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not fit the model: see [`check_activations`].
    pub(super) fn read_activations(&mut self) -> Result<(), JobError> {
        let Some(file) = &self.spec.activations else { return Ok(()) };
        let checked = check_activations(file, &self.model)?;
        let (file, digest, mean_squares) = (file.clone(), checked.digest, checked.mean_squares);
        self.activations = Some(CheckedActivations { file, digest, mean_squares });
        Ok(())
    }

    /// Returns the quantized tensors whose input has no activations: their input will have no quantizer.
    pub fn without_activations(&self) -> Vec<&str> {
        let Some(activations) = &self.activations else { return Vec::new() };
        let quantized = self.model.tensors().iter().zip(&self.choices).filter(|(_, choice)| choice.options.is_some());
        quantized
            .map(|(tensor, _)| tensor.name.as_str())
            .filter(|name| !activations.mean_squares.contains_key(*name))
            .collect()
    }
}

impl CheckedActivations {
    /// Returns a session with the tables `inputs` and `activations`, the latter of the quantized layers alone.
    pub(super) async fn session(&self, job: &PlannedJob, threads: usize) -> Result<Session, JobError> {
        let session = Session::unlimited(threads)?;
        replace(&session, "choices", choices_batch(&job.model, &job.choices)?)?;
        replace(&session, "inputs", job.inputs_batch()?)?;
        let path = &self.file;
        let text = path.to_str().ok_or_else(|| IoError::file(path, "the path must be valid UTF-8"))?;
        // Whatever the file is called.
        let options = ParquetReadOptions::default().file_extension("");
        session.context().register_parquet("calibration", text, options).await?;
        let view = session.sql(recipes::ACTIVATIONS.sql).await?.into_view();
        session.context().register_table("activations", view)?;
        Ok(session)
    }

    /// Runs `sql/time_groups.sql`, with the factors of these inputs.
    pub(super) async fn params(
        &self,
        job: &PlannedJob,
        session: &Session,
        factors: &Factors,
    ) -> Result<RecordBatch, JobError> {
        let layers = || job.inputs().iter().filter_map(|(name, input)| Some((name, factors.get(input)?)));
        let scales: Vec<Vec<f32>> =
            layers().map(|(_, list)| list.iter().map(|factor| 1.0 / factor).collect()).collect();
        let batch = RecordBatch::try_from_iter([
            (NAME, Arc::new(StringViewArray::from_iter_values(layers().map(|(name, _)| name))) as _),
            (INPUT_SCALE, Arc::new(lists(scales.iter())) as _),
        ]);
        replace(session, "input_scales", batch.map_err(datafusion::common::DataFusionError::from)?)?;
        let spec = &job.spec;
        let parameters = ParamValues::from(vec![
            ("groups", ScalarValue::from(i64::from(spec.time_groups()))),
            ("method", ScalarValue::from(spec.time_method.unwrap_or_default().name())),
            ("bits", ScalarValue::from(i64::from(spec.activation_bits().get()))),
            ("symmetric", ScalarValue::from(spec.activation_symmetric)),
        ]);
        let frame = session.sql(recipes::TIME_GROUPS.sql).await?.with_param_values(parameters)?;
        collect(frame, &activation_params_schema()).await
    }
}
