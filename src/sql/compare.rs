//! How far two models lie apart, tensor by tensor, through `sql/compare.sql`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use arrow::compute::concat_batches;
use arrow_array::{Array, RecordBatch, cast::AsArray, types::Float64Type};
use datafusion::{
    catalog::MemTable,
    common::{DataFusionError, ParamValues, Result, ScalarValue, internal_datafusion_err},
};

use super::{
    Session, recipes,
    tables::{WeightsTable, external},
};
use crate::io::{
    Equalization, IoError, Model, Tensor, equalization::Channels, export::EngineNames, output::ErrorSums, piece::Order,
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

/// A tensor and what became of it.
#[derive(Debug, Clone)]
pub struct Compared {
    /// What the reference calls it; what the candidate does where the reference lacks it.
    pub name: String,
    /// What the candidate calls it, where that is another name.
    pub renamed: Option<String>,
    /// Whether its rows are in another order there, and were compared with those that they are.
    pub reordered: bool,
    /// How far it lies.
    pub difference: Difference,
}

/// Compares every tensor of the two models, in the order of the reference. Each is anything that [`Model::open`] reads.
///
/// Tensors belong together by their names. Where one model is a GGUF file with the names and the order of rows that
/// llama.cpp has for its architecture, and the other has those of the checkpoint, what the export made of each counts.
/// What equalization changed is brought back, but for what both models have of it.
///
/// # Errors
/// When a file cannot be read, or when one was made from a folder whose channels were equalized and the other neither is that
/// folder nor was made from it.
pub async fn compare(session: &Session, reference: &Path, candidate: &Path) -> Result<Vec<Compared>> {
    let open = |path: &Path| {
        let model = Arc::new(Model::open_equalized(path)?);
        Ok::<_, IoError>((Channels::of(&model)?, model))
    };
    let ((left_channels, left), (right_channels, right)) =
        (open(reference).map_err(external)?, open(candidate).map_err(external)?);
    let (left_back, right_back) = common(&left_channels, &right_channels).ok_or_else(|| {
        let made = if right_channels.source.is_some() { candidate } else { reference };
        let problem = "was made from a folder whose channels were equalized, so that it cannot be told how they belong to \
                       those of the other model; it can be compared with that folder, and with what else was made from it";
        external(IoError::file(made, problem))
    })?;
    let left_changes = left_channels.equalization(&left).map_err(external)?.filter(|_| left_back);
    let right_changes = right_channels.equalization(&right).map_err(external)?.filter(|_| right_back);
    let left = register(session, "reference", left, left_changes).await?;
    let right = register(session, "candidate", right, right_changes).await?;
    let pairs = pairs(&left, &right).map_err(external)?;
    let mut all = Vec::new();
    for name in &left.order {
        let (difference, pair) = match (&left.shapes[name], pairs.get(name)) {
            (_, None) => (Difference::Missing { in_candidate: true }, None),
            (shape, Some(pair)) if *shape != right.shapes[&pair.name] => {
                (Difference::Shape(shape.clone(), right.shapes[&pair.name].clone()), Some(pair))
            }
            (_, Some(pair)) => (one_tensor(session, name, pair).await?, Some(pair)),
        };
        let renamed = pair.map(|pair| pair.name.clone()).filter(|other| other != name);
        let reordered = pair.is_some_and(|pair| pair.dealt != SAME_ORDER);
        all.push(Compared { name: name.clone(), renamed, reordered, difference });
    }
    let found: BTreeSet<String> = pairs.into_values().map(|pair| pair.name).collect();
    for name in right.order.into_iter().filter(|name| !found.contains(name)) {
        let difference = Difference::Missing { in_candidate: false };
        all.push(Compared { name, renamed: None, reordered: false, difference });
    }
    Ok(all)
}

/// The tensor of the candidate that belongs to one of the reference.
struct Pair {
    name: String,
    /// `$head` and `$share` of the recipe.
    dealt: (usize, usize),
}

/// No row is in another place.
const SAME_ORDER: (usize, usize) = (1, 1);

/// What belongs together, by the name in the reference.
fn pairs(left: &Side, right: &Side) -> std::result::Result<BTreeMap<String, Pair>, IoError> {
    let mut pairs = BTreeMap::new();
    for name in left.order.iter().filter(|name| right.shapes.contains_key(*name)) {
        pairs.insert(name.clone(), Pair { name: name.clone(), dealt: SAME_ORDER });
    }
    let (names, source, is_candidate) = match (left.engine_names(), right.engine_names()) {
        (None, Some(names)) => (names, left, true),
        (Some(names), None) => (names, right, false),
        _ => return Ok(pairs),
    };
    for name in &source.order {
        if pairs.contains_key(name) {
            continue;
        }
        let Some((tensor, order)) = names.find(name)? else { continue };
        let (one, other) = if is_candidate { (name, &tensor.name) } else { (&tensor.name, name) };
        // Dealing the other way, what follows each other goes back to where it lay apart.
        let dealt = match order {
            Order::Interleaved { head } => (head, if is_candidate { head / 2 } else { 2 }),
            Order::Rows | Order::Down { .. } => SAME_ORDER,
        };
        pairs.entry(one.clone()).or_insert_with(|| Pair { name: other.clone(), dealt });
    }
    Ok(pairs)
}

struct Side {
    order: Vec<String>,
    shapes: BTreeMap<String, Vec<usize>>,
    model: Arc<Model>,
}

impl Side {
    fn engine_names(&self) -> Option<EngineNames<'_>> {
        EngineNames::of(&self.model)
    }
}

/// Whether what equalization changed of each of two models is brought back, so that both are in the same channels; none:
/// they cannot be told to be. One that was made from the other is in the channels that the other has.
fn common(left: &Channels, right: &Channels) -> Option<(bool, bool)> {
    let backs = [(true, true), (false, true), (true, false)];
    let of =
        |channels: &Channels, back| if back { channels.source.clone() } else { channels.stored().map(str::to_owned) };
    backs.into_iter().find(|(left_back, right_back)| of(left, *left_back) == of(right, *right_back))
}

/// Makes a model the table `name`, with what equalization changed of it brought back.
async fn register(session: &Session, name: &str, model: Arc<Model>, back: Option<Equalization>) -> Result<Side> {
    let context = session.context();
    let table = WeightsTable::new(Arc::clone(&model));
    if let Some(equalization) = back {
        let changes = changes(equalization, &model).map_err(external)?;
        let (stored, changed) = (format!("{name}_stored"), format!("{name}_changes"));
        context.register_table(&stored, Arc::new(table))?;
        context.register_table(&changed, Arc::new(MemTable::try_new(changes.schema(), vec![vec![changes]])?))?;
        let view = format!(
            "SELECT {stored}.name, dtype, channel, data, coalesce( \
               equalize(weights, back_factors, channel, back_row_factors, back_offsets), weights) AS weights \
             FROM {stored} LEFT JOIN {changed} ON {stored}.name = {changed}.name"
        );
        let view = context.sql(&view).await?.into_view();
        context.register_table(name, view)?;
    } else {
        context.register_table(name, Arc::new(table))?;
    }
    let tensors = named(model.tensors());
    let order = tensors.iter().map(|(name, _)| name.clone()).collect();
    Ok(Side { order, shapes: tensors.into_iter().collect(), model })
}

/// What equalization changed of a model, by the names that it has there. Rows that lie in another order have no factors of
/// their own: those of queries and keys.
fn changes(mut all: Equalization, model: &Model) -> std::result::Result<RecordBatch, IoError> {
    if let Some(names) = EngineNames::of(model) {
        all = all.renamed(|name| Ok(names.find(name)?.map(|(tensor, _)| tensor.name.clone())))?;
    }
    all.table(model, |_| None)
}

fn named(tensors: &[Tensor]) -> Vec<(String, Vec<usize>)> {
    tensors.iter().map(|tensor| (tensor.name.clone(), tensor.shape.clone())).collect()
}

async fn one_tensor(session: &Session, name: &str, pair: &Pair) -> Result<Difference> {
    let (head, share) = pair.dealt;
    let parameters = ParamValues::from(vec![
        ("reference", ScalarValue::from(name)),
        ("candidate", ScalarValue::from(pair.name.as_str())),
        ("head", ScalarValue::Int64(Some(head as i64))),
        ("share", ScalarValue::Int64(Some(share as i64))),
    ]);
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
