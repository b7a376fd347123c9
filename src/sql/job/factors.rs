//! The factors of a model's inputs, and the choice between those of several alphas.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::compute::{cast, concat_batches};
use arrow_array::{
    Array, ArrayRef, Float64Array, ListArray, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::MemTable,
    common::{DataFusionError, internal_datafusion_err},
};
use tokio::runtime::Handle;

use super::{
    Cancel, CheckedActivations, Equalize, JobError, PlannedJob, diagnose::name_the_tensor, threads::take_parts,
};
use crate::{
    io::{Part, choice::choices_batch, scan::part_bytes},
    sql::{Session, recipes, tables::WeightsTable},
    types::weights::weights_type,
};

/// The factors of each input, by name.
pub type Factors = BTreeMap<String, Vec<f32>>;

/// What candidates cost, by layer and the number of the candidate.
type Costs = HashMap<(String, usize), f64>;

impl CheckedActivations {
    /// `sql/equalization.sql`: the factors for each alpha, in their order.
    pub(super) async fn factors(
        &self,
        job: &PlannedJob,
        session: &Session,
        alphas: &[Option<f64>],
    ) -> Result<Vec<Factors>, JobError> {
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
            found[at].insert(input.to_owned(), self.used(job, input, values));
        }
        Ok(found)
    }

    /// For each input the factors of the alpha that is expected to cost least; one that is best left alone has none.
    pub(super) fn choose(
        &self,
        job: &PlannedJob,
        session: &Session,
        threads: usize,
        runtime: &Handle,
        cancel: &Cancel,
    ) -> Result<Factors, JobError> {
        let grid = Equalize::GRID.map(Some);
        let mut tried = runtime.block_on(self.factors(job, session, &grid))?;
        let untouched: Factors =
            tried[0].iter().map(|(name, factors)| (name.clone(), vec![1.0; factors.len()])).collect();
        tried.push(untouched);
        let candidates = runtime.block_on(self.candidates(job, &tried))?;
        let costs = self.costs(job, &candidates, threads, runtime, cancel)?;
        let left_alone = tried.len() - 1;
        let mut chosen = Factors::new();
        for input in tried[0].keys().cloned().collect::<Vec<_>>() {
            let cost = |number: usize| -> Option<f64> {
                let layers = self.inputs.iter().filter(|(_, of)| **of == input);
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

    /// The table `candidates` of `sql/equalization_cost.sql`: every layer with the factors of every alpha.
    async fn candidates(&self, job: &PlannedJob, tried: &[Factors]) -> Result<RecordBatch, JobError> {
        // One partition: the order of a sum must not depend on the number of threads.
        let session = self.session(job, 1).await?;
        let mut rows = Vec::new();
        for (number, factors) in tried.iter().enumerate() {
            let noise = self.noise(&session, factors).await?;
            for (layer, input) in &self.inputs {
                let (Some(noise), Some(squares), Some(factors)) =
                    (noise.get(layer), self.mean_squares.get(layer), factors.get(input))
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

    /// What the candidates cost: each part on one thread, and the parts added up in their order, so that the number of
    /// threads does not change a bit.
    fn costs(
        &self,
        job: &PlannedJob,
        candidates: &RecordBatch,
        threads: usize,
        runtime: &Handle,
        cancel: &Cancel,
    ) -> Result<Costs, JobError> {
        let layers = self.inputs.keys().filter_map(|name| job.model.number_of(name));
        let mut layers: Vec<usize> = layers.collect();
        layers.sort_unstable();
        let parts = job.model.parts(Some(&layers), part_bytes(job.model.total_bytes()));
        let failed = AtomicBool::new(false);
        let stopped = || cancel.load(Ordering::Relaxed) || failed.load(Ordering::Relaxed);
        let work = |part: usize| {
            runtime.block_on(async {
                tokio::select! {
                    costs = costs_of_part(job, candidates, &parts[part]) => costs,
                    () = until(&stopped) => Err(JobError::Interrupted),
                }
            })
        };
        let all: Vec<usize> = (0..parts.len()).collect();
        let mut sums = Costs::new();
        for (key, cost) in take_parts(&all, threads, &failed, work, Ok)?.into_iter().flat_map(|(_, part)| part) {
            *sums.entry(key).or_default() += cost;
        }
        Ok(sums)
    }

    /// The mean over all timesteps of what rounding does to an element of each layer's input, equalized.
    async fn noise(&self, session: &Session, factors: &Factors) -> Result<BTreeMap<String, f64>, JobError> {
        let params = self.params(session, factors).await?;
        replace(session, "params", params)?;
        let query = "SELECT activations.name, avg(CAST(scale AS DOUBLE) * scale) / 12 AS noise \
                     FROM activations JOIN params ON activations.name = params.name \
                     AND timestep >= t_from AND timestep < t_to GROUP BY activations.name";
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, true),
            Field::new("noise", DataType::Float64, true),
        ]));
        let rows = collect(session.sql(query).await?, &schema).await?;
        let (names, noise) = (rows.column(0).as_string_view(), rows.column(1).as_primitive::<Float64Type>());
        Ok((0..rows.num_rows()).map(|row| (names.value(row).to_owned(), noise.value(row))).collect())
    }
}

/// `sql/equalization_cost.sql` over the rows of a part.
async fn costs_of_part(job: &PlannedJob, candidates: &RecordBatch, part: &Part) -> Result<Costs, JobError> {
    let session = Session::new(1)?;
    replace(&session, "choices", choices_batch(&job.model, &job.choices)?)?;
    replace(&session, "candidates", candidates.clone())?;
    let layers = WeightsTable::new(Arc::clone(&job.model)).with_partitions(vec![part.clone()]);
    session.context().register_table("layers", Arc::new(layers))?;
    let frame = session.sql(recipes::EQUALIZATION_COST.sql).await?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("alpha", DataType::Float64, true),
        Field::new("cost", DataType::Float64, true),
    ]));
    let costs = collect(frame, &schema).await.map_err(|error| match error {
        JobError::Query(error) => name_the_tensor(job, part, error),
        other => other,
    })?;
    let (names, numbers) = (costs.column(0).as_string_view(), costs.column(1).as_primitive::<Float64Type>());
    let cost = costs.column(2).as_primitive::<Float64Type>();
    let row = |row: usize| ((names.value(row).to_owned(), numbers.value(row) as usize), cost.value(row));
    Ok((0..costs.num_rows()).map(row).collect())
}

/// Comes back when it is time to stop.
async fn until(stopped: &impl Fn() -> bool) {
    while !stopped() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub fn lists<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> ListArray {
    ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row.iter().copied().map(Some))))
}

/// Makes a batch the table `name`, whatever was called so before.
pub fn replace(session: &Session, name: &str, batch: RecordBatch) -> Result<(), JobError> {
    session.context().deregister_table(name)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    session.context().register_table(name, Arc::new(table))?;
    Ok(())
}

/// The rows of a query as one batch of `schema`, its columns by name.
pub async fn collect(frame: datafusion::dataframe::DataFrame, schema: &SchemaRef) -> Result<RecordBatch, JobError> {
    let given = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    let batch = concat_batches(&given, &batches).map_err(DataFusionError::from)?;
    let columns = schema.fields().iter().map(|field| {
        let column = batch.column_by_name(field.name());
        let column = column.ok_or_else(|| internal_datafusion_err!("the recipe gives no column {}", field.name()))?;
        Ok(cast(column, field.data_type())?)
    });
    let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from)?)
}
