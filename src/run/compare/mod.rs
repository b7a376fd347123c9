//! The comparison of two models, tensor by tensor, through `sql/compare.sql`.

pub mod difference;
mod measured;
mod row_range;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use arrow_array::RecordBatch;
use datafusion::common::{DataFusionError, Result, runtime::SpawnedTask};
use futures::{StreamExt, stream};

use crate::{
    model::{Model, tensor::Tensor},
    plan::{
        equalization::{changes::Equalization, lineage::Channels},
        formats::gguf::names::EngineNames,
    },
    sql::tables::external,
    storage::{error::IoError, row_layout::Order},
};
use difference::Difference;
use measured::Measured;
use row_range::{Piece, SAME_ORDER, Side};

/// A tensor and what became of it.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The name in the reference; that in the candidate if the reference lacks it.
    pub name: String,
    /// The name in the candidate, where it is another.
    pub renamed: Option<String>,
    /// True if its rows are in another order there, and were compared with the matching ones.
    pub reordered: bool,
    /// The difference.
    pub difference: Difference,
}

/// Compares every tensor of the two models, in the order of the reference. Each is anything that [`Model::open`] reads.
///
/// Tensors belong together by their names. Where one model is a GGUF file with the names and the order of rows that
/// llama.cpp has for its architecture, and the other has those of the checkpoint, what the export made of each counts.
/// Changes by equalization are brought back, except those that both models share.
///
/// A tensor is read in pieces, of which `threads` are compared at a time: memory depends on their number alone, and the
/// figures not even on that.
///
/// # Errors
/// Returns an error if a file cannot be read, if weights are not finite in a tensor whose bytes are not the same, or if
/// one was made from a folder whose channels were equalized and the other neither is that folder nor was made from it.
pub async fn compare(threads: usize, reference: &Path, candidate: &Path) -> Result<Vec<Compared>> {
    let sides = open(reference, candidate).map_err(external)?;
    let (left, right) = &sides;
    let pairs = pairs(&left.model, &right.model).map_err(external)?;
    let pieces: Vec<Piece> = (pairs.iter().enumerate())
        .filter_map(|(number, pair)| Some((number, pair.as_ref()?)))
        .filter(|(number, pair)| left.tensor(*number).shape == right.tensor(pair.tensor).shape)
        .flat_map(|(number, pair)| Piece::all(left, number, right, pair.tensor, pair.dealt))
        .collect();
    let mut measured = measure(threads, sides.clone(), Piece::batches(pieces)).await?;
    let mut all = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let tensor = left.tensor(number);
        let (name, found) = (tensor.name.clone(), pair.as_ref().map(|pair| (pair, right.tensor(pair.tensor))));
        let difference = match found {
            None => Difference::Missing { in_candidate: true },
            Some((_, other)) if tensor.shape != other.shape => {
                Difference::Shape(tensor.shape.clone(), other.shape.clone())
            }
            Some(_) => {
                let shared = measured.remove(&number).ok_or_else(|| {
                    DataFusionError::Execution(format!("tensor '{name}': the two models share no row of it"))
                });
                shared?.difference()?
            }
        };
        let renamed = found.map(|(_, other)| other.name.clone()).filter(|other| *other != name);
        let reordered = found.is_some_and(|(pair, _)| pair.dealt != SAME_ORDER);
        all.push(Compared { name, renamed, reordered, difference });
    }
    let found: BTreeSet<usize> = pairs.into_iter().flatten().map(|pair| pair.tensor).collect();
    for (number, tensor) in right.model.tensors().iter().enumerate() {
        if !found.contains(&number) {
            let difference = Difference::Missing { in_candidate: false };
            all.push(Compared { name: tensor.name.clone(), renamed: None, reordered: false, difference });
        }
    }
    Ok(all)
}

/// Measures batches of pieces, `threads` at a time, and adds up the pieces of each tensor of the reference in their order.
async fn measure(threads: usize, sides: (Side, Side), batches: Vec<Vec<Piece>>) -> Result<BTreeMap<usize, Measured>> {
    let (sides, failed) = (Arc::new(sides), AtomicBool::new(false));
    // They begin in their order, so those before one that fails are all measured, and the first failure in that order is
    // told whichever came first in time.
    let batches = batches.into_iter().enumerate().take_while(|_| !failed.load(Relaxed));
    let mut measured: Vec<_> = stream::iter(batches)
        .map(|(number, pieces)| {
            let sides = Arc::clone(&sides);
            // A task of its own, which ends when this is dropped.
            let task = SpawnedTask::spawn(async move { row_range::measure(&pieces, &sides.0, &sides.1).await });
            async move {
                let measured = task.join_unwind().await.map_err(|error| DataFusionError::External(error.into()));
                (number, measured.flatten())
            }
        })
        .buffer_unordered(threads.max(1))
        .inspect(|(_, measured)| {
            if measured.is_err() {
                failed.store(true, Relaxed);
            }
        })
        .collect()
        .await;
    measured.sort_by_key(|(number, _)| *number);
    let mut sums: BTreeMap<usize, Measured> = BTreeMap::new();
    for (_, measured) in measured {
        // A tensor has one piece at most in each batch, so its pieces come in their order.
        for ((tensor, _), measured) in measured? {
            let sum = match sums.remove(&tensor) {
                Some(before) => before.merge(measured),
                None => measured,
            };
            sums.insert(tensor, sum);
        }
    }
    Ok(sums)
}

/// The tensor of the candidate that belongs to one of the reference.
struct Pair {
    /// Its number.
    tensor: usize,
    /// `head` and `share` of the recipe.
    dealt: (usize, usize),
}

/// Returns the partner of each tensor of the reference.
fn pairs(left: &Model, right: &Model) -> std::result::Result<Vec<Option<Pair>>, IoError> {
    let same = |tensor: &Tensor| Some(Pair { tensor: right.number_of(&tensor.name)?, dealt: SAME_ORDER });
    let mut pairs: Vec<Option<Pair>> = left.tensors().iter().map(same).collect();
    let (names, source, is_candidate) = match (EngineNames::of(left), EngineNames::of(right)) {
        (None, Some(names)) => (names, left, true),
        (Some(names), None) => (names, right, false),
        _ => return Ok(pairs),
    };
    for (number, tensor) in source.tensors().iter().enumerate() {
        let is_paired = if is_candidate { pairs[number].is_some() } else { left.number_of(&tensor.name).is_some() };
        if is_paired {
            continue;
        }
        let Some((found, order)) = names.find(&tensor.name)? else { continue };
        let other = if is_candidate { right.number_of(&found.name) } else { left.number_of(&found.name) };
        let Some(other) = other else { continue };
        let (one, other) = if is_candidate { (number, other) } else { (other, number) };
        // Dealing the other way, what follows each other goes back to where it lay apart.
        let dealt = match order {
            Order::Interleaved { head } => (head, if is_candidate { head / 2 } else { 2 }),
            Order::Rows | Order::Down { .. } | Order::Tiled | Order::Shared => SAME_ORDER,
        };
        pairs[one].get_or_insert(Pair { tensor: other, dealt });
    }
    Ok(pairs)
}

/// Opens the two models, in the channels that they share.
fn open(reference: &Path, candidate: &Path) -> std::result::Result<(Side, Side), IoError> {
    let open = |path: &Path| {
        let model = Model::open_equalized(path)?;
        Ok::<_, IoError>((Channels::of(&model)?, model))
    };
    let ((left_channels, left), (right_channels, right)) = (open(reference)?, open(candidate)?);
    let (left_back, right_back) = common(&left_channels, &right_channels).ok_or_else(|| {
        let made = if right_channels.source.is_some() { candidate } else { reference };
        let problem = "was made from an equalized folder, so its channels cannot be matched with the other model's; compare \
                       it with that folder";
        IoError::file(made, problem)
    })?;
    let changes = |channels: &Channels, model: &Model, back: bool| {
        let equalization = channels.equalization(model)?.filter(|_| back);
        equalization.map(|equalization| changes(equalization, model)).transpose()
    };
    let left_changes = changes(&left_channels, &left, left_back)?;
    let right_changes = changes(&right_channels, &right, right_back)?;
    Ok((Side::new(left, left_changes), Side::new(right, right_changes)))
}

/// Returns for each of two models whether its equalization is brought back, so that both are in the same channels; `None` if
/// they cannot be told to be. One that was made from the other is in the channels that the other has.
fn common(left: &Channels, right: &Channels) -> Option<(bool, bool)> {
    let backs = [(true, true), (false, true), (true, false)];
    let of =
        |channels: &Channels, back| if back { channels.source.clone() } else { channels.stored().map(str::to_owned) };
    backs.into_iter().find(|(left_back, right_back)| of(left, *left_back) == of(right, *right_back))
}

/// Returns the changes of a model by equalization, by the names that it has there. Rows in another order have no factors of
/// their own: those of queries and keys.
fn changes(mut all: Equalization, model: &Model) -> std::result::Result<RecordBatch, IoError> {
    if let Some(names) = EngineNames::of(model) {
        all = all.renamed(|name| Ok(names.find(name)?.map(|(tensor, _)| tensor.name.clone())))?;
    }
    all.table(model, |_| None)
}
