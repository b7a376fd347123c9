//! What is made before the weights are quantized: activation quantizers, and factors that equalize channels.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use datafusion::common::internal_datafusion_err;

use super::{JobError, equalized_inputs::Factors, measure::Survey, plan::PlannedJob};
use crate::{plan::equalization::changes::Equalization, types::Equalize};

/// What a run writes beside the weights.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// The activation quantizers; none without activations.
    pub params: Option<RecordBatch>,
    /// What equalization makes of each tensor; none unless asked for.
    pub equalization: Option<Equalization>,
    /// The layers that are not equalized, by name, and why: those of a format that has no place for factors that cannot be
    /// folded.
    pub left_alone: BTreeMap<String, String>,
}

impl PlannedJob {
    /// Runs the recipes on activations and, where channels are equalized, the weights.
    pub(super) fn prepare(&self, survey: Survey<'_>) -> Result<Prepared, JobError> {
        let factors = self.all_factors(survey)?;
        let params = self.activations.as_ref().map(|activations| {
            survey.wait(async {
                let session = activations.session(self, survey.threads).await?;
                activations.params(self, &session, factors.as_ref().unwrap_or(&Factors::new())).await
            })
        });
        let equalized = self.equalized.as_ref().zip(factors);
        Ok(Prepared {
            params: params.transpose()?,
            equalization: equalized.map(|(inputs, factors)| {
                Equalization::new(&self.model, &inputs.folds, &factors, inputs.by == Equalize::Weights)
            }),
            left_alone: self.equalized.as_ref().map(|inputs| inputs.left_alone.clone()).unwrap_or_default(),
        })
    }

    /// The factors of each input that is equalized; none where nothing is to be.
    fn all_factors(&self, survey: Survey<'_>) -> Result<Option<Factors>, JobError> {
        let Some(inputs) = &self.equalized else { return Ok(None) };
        if inputs.of_layers.is_empty() {
            return Ok(Some(Factors::new()));
        }
        let activations = || {
            let missing = || internal_datafusion_err!("channels are equalized by activations that are not there");
            self.activations.as_ref().ok_or_else(missing)
        };
        let of_one = |alpha| {
            let activations = activations()?;
            survey.wait(async {
                let session = activations.session(self, survey.threads).await?;
                Ok::<_, JobError>(activations.factors(self, inputs, &session, &[alpha]).await?.remove(0))
            })
        };
        Ok(Some(match inputs.by {
            Equalize::Alpha(alpha) => of_one(Some(alpha))?,
            Equalize::Log => of_one(None)?,
            Equalize::Auto => activations()?.choose(self, inputs, survey)?,
            Equalize::Weights => self.factors_by_weights(inputs, survey)?,
        }))
    }
}
