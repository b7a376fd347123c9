//! What a run makes of activations: a quantizer per layer and group of timesteps, and factors that equalize channels.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use arrow::compute::{cast, concat_batches};
use arrow_array::{
    Array, ArrayRef, Float64Array, ListArray, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float32Type, Float64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::{
    catalog::MemTable,
    common::{DataFusionError, ParamValues, ScalarValue, internal_datafusion_err},
    datasource::file_format::options::ParquetReadOptions,
};

use super::{Equalize, JobError, PlannedJob};
use crate::{
    io::{IoError, activations::check_activations},
    sql::{Session, recipes, tables::WeightsTable},
    types::{ActivationBits, TimeMethod, activations::activation_params_schema, equalization::equalization_schema},
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
    mean_squares: BTreeMap<String, Vec<f64>>,
}

/// What a run writes beside the weights.
#[derive(Debug, Clone)]
pub struct PreparedActivations {
    /// The activation quantizers.
    pub params: RecordBatch,
    /// The factors by which channels are equalized; none unless asked for.
    pub equalization: Option<RecordBatch>,
}

impl PlannedJob {
    /// Reads and checks the activations for this model, and adds what is to be made of them to the job.
    ///
    /// # Errors
    /// The file cannot be read, or does not fit the model: see [`check_activations`].
    pub fn with_activations(mut self, options: ActivationOptions) -> Result<Self, JobError> {
        if self.export.is_some() && options.equalize.is_some() {
            let problem = "--equalize needs --format parquet or arrow: other formats have no place for its factors";
            return Err(IoError::Request(problem.to_owned()).into());
        }
        if self.factors.is_some() && options.equalize.is_some() {
            let problem = "--equalize cannot be used with --hessians: they are those of inputs that are not equalized";
            return Err(IoError::Request(problem.to_owned()).into());
        }
        let checked = check_activations(&options.file, &self.model)?;
        let (digest, mean_squares) = (checked.digest, checked.mean_squares);
        self.activations = Some(CheckedActivations { options, digest, mean_squares });
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
    pub(super) async fn prepare(&self, job: &PlannedJob, threads: usize) -> Result<PreparedActivations, JobError> {
        let session = self.session(job, threads).await?;
        let equalization = match self.options.equalize {
            None => None,
            Some(Equalize::Alpha(alpha)) => Some(factors(&session, &[Some(alpha)]).await?.remove(0)),
            Some(Equalize::Log) => Some(factors(&session, &[None]).await?.remove(0)),
            Some(Equalize::Auto) => Some(self.choose(&session, job).await?),
        };
        let params = self.params(&session, equalization.as_ref().unwrap_or(&Factors::new())).await?;
        let equalization = equalization.map(|factors| table(&factors)).transpose()?;
        Ok(PreparedActivations { params, equalization })
    }

    /// A session with the tables `layers`, `choices` and `activations`, the latter of the quantized layers alone.
    async fn session(&self, job: &PlannedJob, threads: usize) -> Result<Session, JobError> {
        let session = Session::new(threads)?;
        let choices = job.choices_batch()?;
        replace(&session, "choices", choices)?;
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

    /// `sql/time_groups.sql`, with these factors.
    async fn params(&self, session: &Session, factors: &Factors) -> Result<RecordBatch, JobError> {
        replace(session, "factors", table(factors)?)?;
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

    /// For each layer the factors of the alpha that is expected to cost least; a layer that is best left alone has none.
    async fn choose(&self, session: &Session, job: &PlannedJob) -> Result<Factors, JobError> {
        let grid = Equalize::GRID.map(Some);
        let mut tried = factors(session, &grid).await?;
        let untouched: Factors =
            tried[0].iter().map(|(name, factors)| (name.clone(), vec![1.0; factors.len()])).collect();
        tried.push(untouched);
        // One partition from here: the order of a sum must not depend on the number of threads.
        let single = self.session(job, 1).await?;
        let mut rows = Vec::new();
        for (number, factors) in tried.iter().enumerate() {
            let noise = self.noise(&single, factors).await?;
            for (name, factors) in factors {
                let (Some(noise), Some(squares)) = (noise.get(name), self.mean_squares.get(name)) else { continue };
                let sizes = squares.iter().zip(factors).map(|(square, s)| (square.sqrt() / f64::from(*s)) as f32);
                rows.push((name.clone(), number as f64, factors.clone(), sizes.collect::<Vec<_>>(), *noise));
            }
        }
        let candidates = RecordBatch::try_from_iter([
            ("name", Arc::new(StringViewArray::from_iter_values(rows.iter().map(|row| &row.0))) as ArrayRef),
            ("alpha", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("factors", Arc::new(lists(rows.iter().map(|row| &row.2)))),
            ("input_size", Arc::new(lists(rows.iter().map(|row| &row.3)))),
            ("noise", Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.4)))),
        ])
        .map_err(DataFusionError::from)?;
        replace(&single, "candidates", candidates)?;
        let frame = single.sql(recipes::EQUALIZATION_COST.sql).await?;
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, true),
            Field::new("alpha", DataType::Float64, true),
            Field::new("cost", DataType::Float64, true),
        ]));
        let costs = collect(frame, &schema).await?;
        let (names, numbers) = (costs.column(0).as_string_view(), costs.column(1).as_primitive::<Float64Type>());
        let cost = costs.column(2).as_primitive::<Float64Type>();
        let mut best: BTreeMap<String, (f64, usize)> = BTreeMap::new();
        for row in 0..costs.num_rows() {
            let candidate = (cost.value(row), numbers.value(row) as usize);
            let least = best.entry(names.value(row).to_owned()).or_insert(candidate);
            if candidate.0.total_cmp(&least.0).then(candidate.1.cmp(&least.1)).is_lt() {
                *least = candidate;
            }
        }
        let left_alone = tried.len() - 1;
        let chosen = best.into_iter().filter(|(_, (_, number))| *number != left_alone);
        Ok(chosen.filter_map(|(name, (_, number))| Some((name.clone(), tried[number].remove(&name)?))).collect())
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

/// The factors of each layer, by name.
type Factors = BTreeMap<String, Vec<f32>>;

/// `sql/equalization.sql`: the factors for each alpha, in their order.
async fn factors(session: &Session, alphas: &[Option<f64>]) -> Result<Vec<Factors>, JobError> {
    let column: ArrayRef = Arc::new(Float64Array::from(alphas.to_vec()));
    let batch = RecordBatch::try_from_iter_with_nullable([("alpha", column, true)]).map_err(DataFusionError::from)?;
    replace(session, "alphas", batch)?;
    let frame = session.sql(recipes::EQUALIZATION.sql).await?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("name", DataType::Utf8View, true),
        Field::new("alpha", DataType::Float64, true),
        Field::new("factors", crate::types::weights::weights_type(), true),
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
        found[at].insert(names.value(row).to_owned(), values);
    }
    Ok(found)
}

/// The factors, and one over each, as `equalization.parquet` holds them.
fn table(factors: &Factors) -> Result<RecordBatch, JobError> {
    let scales: Vec<Vec<f32>> = factors.values().map(|list| list.iter().map(|factor| 1.0 / factor).collect()).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from_iter_values(factors.keys())),
        Arc::new(lists(factors.values())),
        Arc::new(lists(scales.iter())),
    ];
    Ok(RecordBatch::try_new(equalization_schema(), columns).map_err(DataFusionError::from)?)
}

fn lists<'a>(rows: impl Iterator<Item = &'a Vec<f32>>) -> ListArray {
    ListArray::from_iter_primitive::<Float32Type, _, _>(rows.map(|row| Some(row.iter().copied().map(Some))))
}

/// Makes a batch the table `name`, whatever was called so before.
fn replace(session: &Session, name: &str, batch: RecordBatch) -> Result<(), JobError> {
    session.context().deregister_table(name)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]])?;
    session.context().register_table(name, Arc::new(table))?;
    Ok(())
}

/// The rows of a query as one batch of `schema`, its columns by name.
async fn collect(frame: datafusion::dataframe::DataFrame, schema: &SchemaRef) -> Result<RecordBatch, JobError> {
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
