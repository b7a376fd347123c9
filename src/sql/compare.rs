//! How far two models lie apart, tensor by tensor, through `sql/compare.sql`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow::compute::concat_batches;
use arrow_array::{Array, RecordBatch, cast::AsArray, types::Float64Type};
use datafusion::{
    common::{DataFusionError, ParamValues, Result, ScalarValue, internal_datafusion_err},
    datasource::file_format::options::{ArrowReadOptions, ParquetReadOptions},
};

use super::{
    Session, recipes,
    tables::{WeightsTable, external},
};
use crate::io::{
    IoError, Model, OutputFormat, QuantizedModel, Tensor,
    output::{EQUALIZATION, ErrorSums, MANIFEST, Manifest},
};

/// What became of one tensor of the reference.
#[derive(Debug, Clone)]
pub enum Difference {
    /// Only one of the two models has it.
    Missing {
        /// Whether the one that lacks it is the candidate.
        in_candidate: bool,
    },
    /// The two have different shapes, this one and that of the candidate.
    Shape(Vec<usize>, Vec<usize>),
    /// The stored bytes are the same.
    Identical,
    /// The stored bytes differ, and the tensor is not one of floats.
    Bytes,
    /// The error sums over all rows.
    Error(ErrorSums),
}

/// Compares every tensor of the two models, in the order of the reference. Each is anything that [`Model::open`] reads.
///
/// # Errors
/// When a file cannot be read.
pub async fn compare(session: &Session, reference: &Path, candidate: &Path) -> Result<Vec<(String, Difference)>> {
    let left = register(session, "reference", reference).await?;
    let right = register(session, "candidate", candidate).await?;
    let mut differences = Vec::new();
    for name in &left.order {
        let difference = match (&left.shapes[name], right.shapes.get(name)) {
            (_, None) => Difference::Missing { in_candidate: true },
            (shape, Some(other)) if shape != other => Difference::Shape(shape.clone(), other.clone()),
            _ => one_tensor(session, name).await?,
        };
        differences.push((name.clone(), difference));
    }
    for name in right.order.into_iter().filter(|name| !left.shapes.contains_key(name)) {
        differences.push((name, Difference::Missing { in_candidate: false }));
    }
    Ok(differences)
}

struct Side {
    order: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
}

/// Makes a model the table `name`.
async fn register(session: &Session, name: &str, path: &Path) -> Result<Side> {
    let equalized = path.join(MANIFEST).is_file() && Manifest::read(path).map_err(external)?.equalized();
    let tensors = if equalized {
        let model = QuantizedModel::open(path).map_err(external)?;
        register_equalized(session, name, &model).await?;
        named(model.tensors())
    } else {
        let model = Arc::new(Model::open(path).map_err(external)?);
        session.context().register_table(name, Arc::new(WeightsTable::new(Arc::clone(&model))))?;
        named(model.tensors())
    };
    let order = tensors.iter().map(|(name, _)| name.clone()).collect();
    Ok(Side { order, shapes: tensors.into_iter().collect() })
}

/// Makes a folder whose channels were multiplied the table `name`: what its codes decode to, divided again.
async fn register_equalized(session: &Session, name: &str, model: &QuantizedModel) -> Result<()> {
    let (files, scales) = (format!("{name}_parts"), format!("{name}_equalization"));
    let (weights, equalization) = (model.folder().join("weights"), model.folder().join(EQUALIZATION));
    let context = session.context();
    match model.manifest().output_format {
        OutputFormat::Arrow => context.register_arrow(&files, text(&weights)?, ArrowReadOptions::default()).await?,
        _ => context.register_parquet(&files, text(&weights)?, ParquetReadOptions::default()).await?,
    }
    context.register_parquet(&scales, text(&equalization)?, ParquetReadOptions::default()).await?;
    let view = format!(
        "SELECT {files}.name, dtype, channel, data, \
         coalesce(equalize(dequantize(quantized), input_scale), dequantize(quantized)) AS weights \
         FROM {files} LEFT JOIN {scales} ON {files}.name = {scales}.name"
    );
    let view = context.sql(&view).await?.into_view();
    context.register_table(name, view)?;
    Ok(())
}

fn named(tensors: &[Tensor]) -> Vec<(String, Vec<usize>)> {
    tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| external(IoError::file(path, "the path must be valid UTF-8")))
}

async fn one_tensor(session: &Session, name: &str) -> Result<Difference> {
    let parameters = ParamValues::from(vec![("name", ScalarValue::from(name))]);
    let frame = session.sql(recipes::COMPARE.sql).await?.with_param_values(parameters)?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let row = concat_batches(&schema, &frame.collect().await?)?;
    if row.num_rows() != 1 {
        return Err(DataFusionError::Execution(format!("tensor '{name}': the two models share no row of it")));
    }
    let same = column(&row, "same")?.as_boolean();
    if same.is_valid(0) && same.value(0) {
        return Ok(Difference::Identical);
    }
    let figure = |name: &str| Ok::<_, DataFusionError>(column(&row, name)?.as_primitive::<Float64Type>().clone());
    let err2 = figure("err2")?;
    if err2.is_null(0) {
        return Ok(Difference::Bytes);
    }
    let value = |name: &str| Ok::<_, DataFusionError>(figure(name)?.value(0));
    let sums = ErrorSums {
        dot: value("dot")?,
        a2: value("a2")?,
        b2: value("b2")?,
        err2: err2.value(0),
        max_abs: value("max_abs")?,
        n: value("n")? as u64,
    };
    Ok(Difference::Error(sums))
}

fn column<'a>(row: &'a RecordBatch, name: &str) -> Result<&'a Arc<dyn Array>> {
    row.column_by_name(name).ok_or_else(|| internal_datafusion_err!("the recipe gives no column {name}"))
}
