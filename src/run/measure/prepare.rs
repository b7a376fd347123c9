//! The tables that are made before the weights are quantized: activation quantizers, and factors that equalize channels.

use arrow_array::RecordBatch;
use datafusion::common::internal_datafusion_err;

use super::{Survey, equalized_inputs::Factors, prepared::Prepared};
use crate::{
    plan::equalization::changes::Equalization,
    run::{Cancel, RunError, RunSettings, plan::Plan, progress::Progress, workers::threads_within},
    sql::threads::runtime,
    types::Equalize,
};

impl Plan {
    /// Runs the recipes on activations and, where channels are equalized, the weights.
    pub(in crate::run) fn prepare(&self, survey: Survey<'_>) -> Result<Prepared, RunError> {
        let factors = self.all_factors(survey)?;
        let params = self.activations.as_ref().map(|activations| {
            survey.wait(async {
                let session = activations.session(self, survey.threads).await?;
                activations.params(self, &session, factors.as_ref().unwrap_or(&Factors::new())).await
            })
        });
        Ok(self.prepared_of(factors, params.transpose()?))
    }

    /// Returns what follows from the factors of each input and the activation quantizers.
    pub(in crate::run) fn prepared_of(&self, factors: Option<Factors>, params: Option<RecordBatch>) -> Prepared {
        let equalized = self.equalized.as_ref().zip(factors.as_ref());
        Prepared {
            params,
            equalization: equalized.map(|(inputs, factors)| {
                Equalization::new(&self.model, &inputs.folds, factors, inputs.by == Equalize::Weights)
            }),
            left_alone: self.equalized.as_ref().map(|inputs| inputs.left_alone.clone()).unwrap_or_default(),
            factors,
        }
    }

    /// Returns the plan with all that is measured before the weights are quantized.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read, or the run was cancelled.
    pub fn measured(
        mut self,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self, RunError> {
        let threads = threads_within(settings, self.loaded, self.longest_row())?;
        let runtime = runtime(1)?;
        self.prepared = Some(self.prepare(Survey { threads, runtime: runtime.handle(), progress, cancel })?);
        Ok(self)
    }

    /// Returns the factors of each input that is equalized; none where nothing is to be.
    fn all_factors(&self, survey: Survey<'_>) -> Result<Option<Factors>, RunError> {
        let Some(inputs) = &self.equalized else { return Ok(None) };
        if inputs.of_layers.is_empty() {
            return Ok(Some(Factors::new()));
        }
        let activations = || {
            let missing = || internal_datafusion_err!("channels are equalized by activations that are not there");
            self.activations.as_ref().ok_or_else(missing)
        };
        let of_one = |alpha| Ok::<_, RunError>(activations()?.factors(self, inputs, survey, &[alpha])?.remove(0));
        Ok(Some(match inputs.by {
            Equalize::Alpha(alpha) => of_one(Some(alpha))?,
            Equalize::Log => of_one(None)?,
            Equalize::Auto => activations()?.choose(self, inputs, survey)?,
            Equalize::Weights => self.factors_by_weights(inputs, survey)?,
        }))
    }
}
