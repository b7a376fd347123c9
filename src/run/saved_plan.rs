//! A plan in a folder: what `arrow-quant plan` writes, and `run` and `explain` read.

use std::{
    fs,
    path::{Path, PathBuf, absolute},
    sync::Arc,
};

use arrow::compute::cast;
use arrow_array::{Array, RecordBatch, StringViewArray, cast::AsArray, types::Float32Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{
    RunError, RunSettings,
    measure::equalized_inputs::Factors as InputFactors,
    plan::{Plan, open_model},
    tables::lists,
};
use crate::{
    output::new_manifest::sources,
    plan::{
        hessians_file::Factors as HessianFactors,
        saved_choices::{read_choices, saved_choices_batch},
        spec::Spec,
    },
    storage::{
        atomic_file::write_renamed,
        digest::{Digest, digest_of},
        error::IoError,
        folder::manifest::{ACTIVATION_PARAMS, Source, WIDTHS},
        parquet_table::{column, open, write_table},
    },
    types::{activations::activation_params_schema, equalization::FACTORS, factor::factors_schema, weights::NAME},
};

/// The spec, the model and the calibration files; written last.
const PLAN: &str = "plan.json";
/// The query.
const SQL: &str = "plan.sql";
/// The file of the choices: how each tensor is to be quantized.
const CHOICES: &str = "choices.parquet";
/// The factors of each input whose channels are equalized.
const INPUT_FACTORS: &str = "equalization_factors.parquet";
/// The factors of the layers that GPTQ quantizes.
const HESSIAN_FACTORS: &str = "hessian_factors.parquet";

/// The layout of saved plans that this version writes and reads.
const VERSION: u32 = 1;

/// The contents of `plan.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u32,
    /// The path of the model.
    model: PathBuf,
    /// The files that the plan is made for.
    sources: Vec<Source>,
    /// The digest of the file of activations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    activations: Option<String>,
    /// The digest of the file of Hessians, whose factors are saved beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hessians: Option<String>,
    spec: Json,
}

impl Plan {
    /// Writes the plan to a folder of its own: `plan.json`, `plan.sql`, `choices.parquet` and the tables that were measured.
    /// `model` is where the model was opened.
    ///
    /// # Errors
    /// Returns an error if the folder is there and not empty, the plan was not [measured](Self::measured), or a file cannot
    /// be written.
    pub fn save(&self, model: &Path, folder: &Path) -> Result<(), RunError> {
        let prepared = self.prepared.as_ref();
        let prepared =
            prepared.ok_or_else(|| IoError::file(folder, "the plan is not complete: nothing was measured"))?;
        fs::create_dir_all(folder).map_err(IoError::system("create", folder))?;
        if fs::read_dir(folder).map_err(IoError::system("list", folder))?.next().is_some() {
            return Err(IoError::file(folder, "is not empty; a plan needs a folder of its own").into());
        }
        let whole = |path: &Path| absolute(path).map_err(IoError::system("find", path));
        let mut spec = self.spec.clone();
        spec.activations = spec.activations.as_deref().map(whole).transpose()?;
        spec.hessians = spec.hessians.as_deref().map(whole).transpose()?;
        let head = Head {
            version: VERSION,
            model: whole(model)?,
            sources: sources(&self.model),
            activations: self.activations.as_ref().map(|activations| activations.digest.clone()),
            hessians: self.factors.as_ref().map(|factors| factors.digest.clone()),
            spec: Json::Object(spec.given().map_err(IoError::from)?.into_iter().collect()),
        };
        write_renamed(&folder.join(SQL), self.sql.as_bytes())?;
        write_table(folder, CHOICES, &saved_choices_batch(&self.model, &self.selected, &self.spec)?)?;
        if let Some(widths) = self.widths_batch()? {
            write_table(folder, WIDTHS, &widths)?;
        }
        if let Some(factors) = &prepared.factors {
            write_table(folder, INPUT_FACTORS, &input_factors_batch(folder, factors)?)?;
        }
        if let Some(params) = &prepared.params {
            write_table(folder, ACTIVATION_PARAMS, params)?;
        }
        if let Some(factors) = &self.factors {
            let stored = stored_factors_schema();
            write_table(folder, HESSIAN_FACTORS, &as_schema(folder, &factors.table, &stored)?)?;
        }
        let text = serde_json::to_string_pretty(&head).map_err(|error| IoError::file(folder, error.to_string()))?;
        Ok(write_renamed(&folder.join(PLAN), format!("{text}\n").as_bytes())?)
    }

    /// Opens a plan that [`Self::save`] wrote, as people may have changed its SQL and its tables since, and checks that
    /// the output can go to `output` (`None` means nowhere).
    ///
    /// # Errors
    /// Returns an error if there is no plan, a file is damaged, the model or a calibration file is not the one that the
    /// plan was made for, or a table does not fit the model; see [`read_choices`] for what may be changed.
    pub fn open(folder: &Path, output: Option<&Path>, settings: &RunSettings) -> Result<Self, RunError> {
        let head = Head::read(folder)?;
        let spec = Spec::from_deserializer(head.spec).map_err(IoError::from)?;
        spec.check().map_err(IoError::from)?;
        let model = open_model(&spec, &head.model, settings)?;
        for (now, planned) in sources(&model).iter().zip(&head.sources) {
            if now != planned {
                return Err(other(&model.folder().join(&planned.name)).into());
            }
        }
        if model.files().len() != head.sources.len() {
            return Err(other(&head.model).into());
        }
        let selected = read_choices(&folder.join(CHOICES), &model, &spec)?;
        let mut plan = Self::of_choices(spec, &head.model, model, selected, output, settings)?;
        plan.reads.paths.push(folder.to_owned());
        let sql = folder.join(SQL);
        plan.sql = fs::read_to_string(&sql).map_err(IoError::system("read", &sql))?;
        plan.read_activations()?;
        let digest = plan.activations.as_ref().map(|activations| &activations.digest);
        if let (Some(file), true) = (&plan.spec.activations, digest != head.activations.as_ref()) {
            return Err(other(file).into());
        }
        plan.find_equalized_inputs()?;
        let mut tables = vec![CHOICES];
        if let Some(digest) = head.hessians {
            let path = folder.join(HESSIAN_FACTORS);
            let table = as_schema(&path, &read(&path, &stored_factors_schema())?, &factors_schema())?;
            plan.use_factors(HessianFactors { digest, table });
            tables.push(HESSIAN_FACTORS);
        }
        let factors = plan.equalized.is_some().then(|| {
            tables.push(INPUT_FACTORS);
            plan.read_input_factors(&folder.join(INPUT_FACTORS))
        });
        let params = plan.activations.is_some().then(|| {
            tables.push(ACTIVATION_PARAMS);
            read(&folder.join(ACTIVATION_PARAMS), &activation_params_schema())
        });
        plan.prepared = Some(plan.prepared_of(factors.transpose()?, params.transpose()?));
        let mut digest = Digest::default();
        for name in tables {
            digest.update(digest_of(&folder.join(name))?.1.as_bytes());
        }
        plan.saved = Some(digest.hex());
        Ok(plan)
    }

    /// Reads the factors of each input that is equalized.
    fn read_input_factors(&self, path: &Path) -> Result<InputFactors, IoError> {
        let schema = input_factors_schema();
        let batch = read(path, &schema)?;
        let (names, lists) = (batch.column(0).as_string_view(), batch.column(1).as_list::<i32>());
        let inputs: Vec<&String> = self.inputs().values().collect();
        let mut factors = InputFactors::new();
        for row in 0..batch.num_rows() {
            let refuse = |problem: &str| IoError::file(path, format!("row {row}: {problem}"));
            if names.is_null(row) || lists.is_null(row) {
                return Err(refuse("a null; name and factors must have values"));
            }
            let (name, list) = (names.value(row), lists.value(row));
            let list = list.as_primitive::<Float32Type>();
            let Some(tensor) = inputs.iter().find(|input| *input == &name).and_then(|_| self.model.tensor(name)) else {
                return Err(refuse(&format!("'{name}' is no input that the choices equalize; plan again")));
            };
            let wanted = tensor.shape.get(1).copied().unwrap_or_default();
            if list.len() != wanted || list.iter().any(|factor| !factor.is_some_and(|f| f.is_finite() && f > 0.0)) {
                return Err(refuse(&format!("'{name}' must have {wanted} factors, finite and above 0")));
            }
            if factors.insert(name.to_owned(), list.values().to_vec()).is_some() {
                return Err(refuse(&format!("'{name}' has a row already")));
            }
        }
        match inputs.iter().find(|input| !factors.contains_key(**input)) {
            Some(missing) => {
                Err(IoError::file(path, format!("has no row for '{missing}', which the choices quantize")))
            }
            None => Ok(factors),
        }
    }
}

impl Head {
    fn read(folder: &Path) -> Result<Self, IoError> {
        let path = folder.join(PLAN);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(IoError::file(folder, "holds no plan: `arrow-quant plan MODEL --output DIR` makes one"));
            }
            text => text.map_err(IoError::system("read", &path))?,
        };
        let head: Self = serde_json::from_slice(&text)
            .map_err(|error| IoError::file(&path, format!("is no saved plan: {error}")))?;
        if head.version != VERSION {
            return Err(IoError::file(&path, format!("has layout version {}; supported: {VERSION}", head.version)));
        }
        Ok(head)
    }
}

/// Says that a file is not the one that a plan was made for.
fn other(path: &Path) -> IoError {
    IoError::file(path, "has changed since the plan was made; plan again")
}

fn input_factors_schema() -> SchemaRef {
    let list = DataType::new_list(DataType::Float32, true);
    Arc::new(Schema::new(vec![Field::new(NAME, DataType::Utf8View, false), Field::new(FACTORS, list, false)]))
}

fn input_factors_batch(folder: &Path, factors: &InputFactors) -> Result<RecordBatch, IoError> {
    let names = StringViewArray::from_iter_values(factors.keys());
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(names), Arc::new(lists(factors.values()))];
    RecordBatch::try_new(input_factors_schema(), columns).map_err(IoError::arrow(folder))
}

/// Returns the schema of [`factors_schema`] with lists in place of views, which Parquet does not have.
fn stored_factors_schema() -> SchemaRef {
    let fields = crate::types::factor::factor_fields();
    let fields = fields.iter().map(|field| match field.data_type() {
        DataType::ListView(item) => Field::new(field.name(), DataType::List(Arc::clone(item)), true),
        _ => Field::clone(field),
    });
    let factor = DataType::Struct(fields.collect());
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, false),
        Field::new(crate::types::factor::FACTOR, factor, true),
    ]))
}

/// Returns a table with the types of another schema.
fn as_schema(path: &Path, table: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, IoError> {
    let columns = table.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<_, _>>();
    columns.and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns)).map_err(IoError::arrow(path))
}

/// Reads a whole table of a plan.
fn read(path: &Path, schema: &SchemaRef) -> Result<RecordBatch, IoError> {
    let mut batches = Vec::new();
    for batch in open(path, schema, "tables of this name", 1024)? {
        let batch = batch.map_err(IoError::arrow(path))?;
        let columns = schema.fields().iter().map(|field| column(path, &batch, schema, field.name()));
        let columns = columns.collect::<Result<_, _>>()?;
        batches.push(RecordBatch::try_new(Arc::clone(schema), columns).map_err(IoError::arrow(path))?);
    }
    arrow::compute::concat_batches(schema, &batches).map_err(IoError::arrow(path))
}
