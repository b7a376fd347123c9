//! The factors of a model's inputs by the weights alone.

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{cast::AsArray, types::Float32Type};
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::DataFusionError;

use super::{
    Survey,
    equalized_inputs::{EqualizedInputs, Factors},
};
use crate::{
    compute::{ChannelAccumulator, ChannelStatistic, ComputeError, weight_equalization_factors},
    run::{RunError, plan::Plan, progress::Pass},
    sql::recipes,
};

impl Plan {
    /// Runs `sql/weight_equalization.sql` over every part, and `weight_equalization_factors` of the sums over all.
    pub(in crate::run) fn factors_by_weights(
        &self,
        inputs: &EqualizedInputs,
        survey: Survey<'_>,
    ) -> Result<Factors, RunError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("input", DataType::Utf8View, true),
            Field::new("sum_squares", DataType::new_list(DataType::Float64, true), true),
        ]));
        let tables = [("inputs", self.inputs_batch()?)];
        let tensors = self.equalized_tensors();
        let parts = survey.run(Pass::Channels, self, &tensors, recipes::WEIGHT_EQUALIZATION, &tables, &schema)?;
        let mut sums: BTreeMap<String, ChannelAccumulator> = BTreeMap::new();
        let external = |error: ComputeError| DataFusionError::External(Box::new(error));
        for part in parts {
            let inputs = part.column(0).as_string_view();
            for row in 0..part.num_rows() {
                let sum = sums.entry(inputs.value(row).to_owned());
                let sum = sum.or_insert_with(|| ChannelAccumulator::new(ChannelStatistic::SumSquares));
                sum.merge(&part.column(1).slice(row, 1)).map_err(external)?;
            }
        }
        let factors = sums.into_iter().map(|(input, sum)| {
            let factors = weight_equalization_factors(&sum.finish()?)?;
            let factors = factors.as_list::<i32>().value(0).as_primitive::<Float32Type>().values().to_vec();
            Ok((input.clone(), inputs.used(self, &input, factors)))
        });
        Ok(factors.collect::<Result<_, _>>().map_err(external)?)
    }
}
