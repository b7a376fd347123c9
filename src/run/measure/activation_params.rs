//! The tables that a run makes of activations: a quantizer per layer and group of timesteps, and factors that equalize channels.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringViewArray};
use datafusion::{
    common::{ParamValues, ScalarValue},
    datasource::file_format::options::ParquetReadOptions,
};

use super::{checked_activations::CheckedActivations, equalized_inputs::Factors};
use crate::{
    plan::{activations_file::check_activations, choices_table::choices_batch},
    run::{
        RunError,
        plan::Plan,
        tables::{collect, lists, replace},
    },
    sql::{Session, recipes},
    storage::error::IoError,
    types::{activations::activation_params_schema, equalization::INPUT_SCALE, weights::NAME},
};

impl Plan {
    /// Reads the activations, where the spec names a file, and checks them against the model.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not fit the model: see [`check_activations`].
    pub(in crate::run) fn read_activations(&mut self) -> Result<(), RunError> {
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
    pub(in crate::run) async fn session(&self, plan: &Plan, threads: usize) -> Result<Session, RunError> {
        let session = Session::unlimited(threads)?;
        replace(&session, "choices", choices_batch(&plan.model, &plan.choices)?)?;
        replace(&session, "inputs", plan.inputs_batch()?)?;
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
    pub(in crate::run) async fn params(
        &self,
        plan: &Plan,
        session: &Session,
        factors: &Factors,
    ) -> Result<RecordBatch, RunError> {
        let layers = || plan.inputs().iter().filter_map(|(name, input)| Some((name, factors.get(input)?)));
        let scales: Vec<Vec<f32>> =
            layers().map(|(_, list)| list.iter().map(|factor| 1.0 / factor).collect()).collect();
        let batch = RecordBatch::try_from_iter([
            (NAME, Arc::new(StringViewArray::from_iter_values(layers().map(|(name, _)| name))) as _),
            (INPUT_SCALE, Arc::new(lists(scales.iter())) as _),
        ]);
        replace(session, "input_scales", batch.map_err(datafusion::common::DataFusionError::from)?)?;
        let spec = &plan.spec;
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
