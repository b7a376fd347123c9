//! The factors of a model's inputs, and the choice between those of several alphas.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow_array::{
    Array, ArrayRef, Float64Array, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::{DataFusionError, internal_datafusion_err};
use futures::TryFutureExt;

use super::{
    Survey,
    checked_activations::CheckedActivations,
    equalized_inputs::{EqualizedInputs, Factors},
};
use crate::{
    plan::choices_table::choices_batch,
    run::{
        RunError,
        plan::Plan,
        progress::Pass,
        tables::{collect, lists, replace},
    },
    sql::{Session, recipes, tables::WeightsTable},
    types::{Equalize, weights::weights_type},
};

/// The costs of the candidates, by layer and the number of the candidate.
type Costs = HashMap<(String, usize), f64>;

impl CheckedActivations {
    /// Runs `sql/equalization.sql`: the factors for each alpha, in their order.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read, or the run was cancelled.
    pub(in crate::run) fn factors(
        &self,
        plan: &Plan,
        inputs: &EqualizedInputs,
        survey: Survey<'_>,
        alphas: &[Option<f64>],
    ) -> Result<Vec<Factors>, RunError> {
        let tensors = plan.equalized_tensors();
        let bytes: u64 = tensors.iter().map(|tensor| plan.model.tensors()[*tensor].bytes() as u64).sum();
        let parts = plan.model.parts(Some(&tensors), bytes.div_ceil(survey.threads as u64));
        let rows = parts.iter().flat_map(|part| part.runs.clone()).collect();
        let query = async |parts| {
            let session = self.session(plan, survey.threads).await?;
            let layers = WeightsTable::new(Arc::clone(&plan.model)).with_partitions(parts);
            session.context().register_table("layers", Arc::new(layers))?;
            self.factors_in(plan, inputs, &session, alphas).await
        };
        survey.wait(async {
            match query(parts).await {
                Err(error) => {
                    let over = |part| query(vec![part]).map_ok(drop);
                    Err(plan.located(error, rows, None, over).await)
                }
                found => found,
            }
        })
    }

    /// Runs the recipe in a session that has the layers.
    async fn factors_in(
        &self,
        plan: &Plan,
        inputs: &EqualizedInputs,
        session: &Session,
        alphas: &[Option<f64>],
    ) -> Result<Vec<Factors>, RunError> {
        let column: ArrayRef = Arc::new(Float64Array::from(alphas.to_vec()));
        let batch = RecordBatch::try_from_iter_with_nullable([("alpha", column, true)]);
        replace(session, "alphas", batch.map_err(DataFusionError::from)?)?;
        let frame = session.sql(recipes::EQUALIZATION.sql).await?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("input", DataType::Utf8View, true),
            Field::new("alpha", DataType::Float64, true),
            Field::new("factors", weights_type(), true),
        ]));
        let rows = collect(frame, &schema).await?;
        let (names, alpha) = (rows.column(0).as_string_view(), rows.column(1).as_primitive::<Float64Type>());
        let lists = rows.column(2).as_list::<i32>();
        let mut found = vec![Factors::new(); alphas.len()];
        for row in 0..rows.num_rows() {
            let given = alpha.is_valid(row).then(|| alpha.value(row));
            let at = alphas.iter().position(|alpha| *alpha == given);
            let at = at.ok_or_else(|| internal_datafusion_err!("the recipe gives an alpha that was not asked for"))?;
            let values = lists.value(row).as_primitive::<Float32Type>().values().to_vec();
            let input = names.value(row);
            found[at].insert(input.to_owned(), inputs.used(plan, input, values));
        }
        Ok(found)
    }

    /// For each input the factors of the alpha that is expected to cost least; one that is best left alone has none.
    pub(in crate::run) fn choose(
        &self,
        plan: &Plan,
        inputs: &EqualizedInputs,
        survey: Survey<'_>,
    ) -> Result<Factors, RunError> {
        let grid = Equalize::GRID.map(Some);
        let mut tried = self.factors(plan, inputs, survey, &grid)?;
        let untouched: Factors =
            tried[0].iter().map(|(name, factors)| (name.clone(), vec![1.0; factors.len()])).collect();
        tried.push(untouched);
        let candidates = survey.wait(self.candidates(plan, &tried))?;
        let costs = costs(plan, candidates, survey)?;
        let left_alone = tried.len() - 1;
        let mut chosen = Factors::new();
        for input in tried[0].keys().cloned().collect::<Vec<_>>() {
            let cost = |number: usize| -> Option<f64> {
                let layers = inputs.of_layers.iter().filter(|(_, of)| **of == input);
                layers.map(|(layer, _)| costs.get(&(layer.clone(), number)).copied()).sum()
            };
            let all = (0..tried.len()).filter_map(|number| Some((cost(number)?, number)));
            let best = all.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            if let Some((_, number)) = best.filter(|(_, number)| *number != left_alone)
                && let Some(factors) = tried[number].remove(&input)
            {
                chosen.insert(input, factors);
            }
        }
        Ok(chosen)
    }

    /// Returns the table `candidates` of `sql/equalization_cost.sql`: every layer with the factors of every alpha.
    async fn candidates(&self, plan: &Plan, tried: &[Factors]) -> Result<RecordBatch, RunError> {
        // One partition: the order of a sum must not depend on the number of threads.
        let session = self.session(plan, 1).await?;
        let mut rows = Vec::new();
        for (number, factors) in tried.iter().enumerate() {
            let noise = self.noise(plan, &session, factors).await?;
            for (layer, input) in plan.inputs() {
                let (Some(noise), Some(squares), Some(factors)) =
                    (noise.get(layer), self.mean_squares().get(layer), factors.get(input))
                else {
                    continue;
                };
                let sizes = squares.iter().zip(factors).map(|(square, s)| (square.sqrt() / f64::from(*s)) as f32);
                rows.push((layer, number as f64, factors, sizes.collect::<Vec<_>>(), *noise));
            }
        }
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| row.0))) as ArrayRef),
            ("alpha", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("factors", Arc::new(lists(rows.iter().map(|row| row.2)))),
            ("input_size", Arc::new(lists(rows.iter().map(|row| &row.3)))),
            ("noise", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.4)))),
        ]);
        Ok(batch.map_err(DataFusionError::from)?)
    }

    /// Runs `sql/rounding_noise.sql`, over the inputs of the layers as they are equalized.
    async fn noise(
        &self,
        plan: &Plan,
        session: &Session,
        factors: &Factors,
    ) -> Result<BTreeMap<String, f64>, RunError> {
        let params = self.params(plan, session, factors).await?;
        replace(session, "params", params)?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, true),
            Field::new("noise", DataType::Float64, true),
        ]));
        let rows = collect(session.sql(recipes::ROUNDING_NOISE.sql).await?, &schema).await?;
        let (names, noise) = (rows.column(0).as_string_view(), rows.column(1).as_primitive::<Float64Type>());
        Ok((0..rows.num_rows()).map(|row| (names.value(row).to_owned(), noise.value(row))).collect())
    }
}

/// Returns the costs of the candidates, the parts added up in their order.
fn costs(plan: &Plan, candidates: RecordBatch, survey: Survey<'_>) -> Result<Costs, RunError> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("alpha", DataType::Float64, true),
        Field::new("cost", DataType::Float64, true),
    ]));
    let tables = [("choices", choices_batch(&plan.model, &plan.choices)?), ("candidates", candidates)];
    let mut sums = Costs::new();
    let tensors = plan.equalized_tensors();
    for costs in survey.run(Pass::Alphas, plan, &tensors, recipes::EQUALIZATION_COST, &tables, &schema)? {
        let (names, numbers) = (costs.column(0).as_string_view(), costs.column(1).as_primitive::<Float64Type>());
        let cost = costs.column(2).as_primitive::<Float64Type>();
        for row in 0..costs.num_rows() {
            let key = (names.value(row).to_owned(), numbers.value(row) as usize);
            *sums.entry(key).or_default() += cost.value(row);
        }
    }
    Ok(sums)
}
