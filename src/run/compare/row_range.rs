//! Rows of a tensor of one model, compared with those of the other that belong to them.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow::compute::concat_batches;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, cast::AsArray};
use datafusion::common::{Result, internal_datafusion_err};
use futures::{FutureExt, future::BoxFuture};

use super::measured::Measured;
use crate::{
    compute::ComputeError,
    model::{
        Model,
        part::{Part, Run},
        tensor::Tensor,
    },
    run::{RunError, locate_error::RefusedRow, tables::replace},
    sql::{
        Session, recipes,
        tables::{WeightsTable, external},
    },
    storage::error::IoError,
    types::weights::NAME,
};

/// Bytes of the rows of one side of a query, stored and widened to f32, at most. A query takes milliseconds to plan, as
/// long as it takes to compare some MiB.
const PIECE_BYTES: usize = 32 << 20;

/// No row is in another place: `head` and `share` of the recipe.
pub const SAME_ORDER: (usize, usize) = (1, 1);

/// One of the two models.
#[derive(Clone)]
pub struct Side {
    pub model: Arc<Model>,
    /// The changes by equalization that are to be brought back, a row for each tensor.
    changes: Option<RecordBatch>,
    /// The row of each tensor among them.
    changed: HashMap<String, usize>,
}

impl Side {
    pub fn new(model: Model, changes: Option<RecordBatch>) -> Self {
        let names = changes.iter().filter_map(|changes| changes.column_by_name(NAME)?.as_string_view_opt());
        let rows = names.flat_map(|names| names.iter().enumerate());
        let changed = rows.filter_map(|(row, name)| Some((name?.to_owned(), row))).collect();
        Self { model: Arc::new(model), changes, changed }
    }

    pub fn tensor(&self, number: usize) -> &Tensor {
        &self.model.tensors()[number]
    }

    /// Returns what equalization changed of a tensor: one row, if there is one.
    fn changes_of(&self, tensor: &str) -> Option<RecordBatch> {
        Some(self.changes.as_ref()?.slice(*self.changed.get(tensor)?, 1))
    }

    /// Returns what equalization changed of some tensors: a row for each that was changed, `None` where none was.
    fn changes_of_all(&self, runs: &[Run]) -> Result<Option<RecordBatch>> {
        let changes: Vec<_> = runs.iter().filter_map(|run| self.changes_of(&self.tensor(run.tensor).name)).collect();
        let Some(first) = changes.first() else { return Ok(None) };
        Ok(Some(concat_batches(&first.schema(), &changes)?))
    }

    /// Makes rows of tensors the table `name`, with what equalization changed of them brought back. Without weights they
    /// are bytes alone.
    async fn register(&self, session: &Session, name: &str, rows: Vec<Run>, weights: bool) -> Result<()> {
        let context = session.context();
        let changes = self.changes_of_all(&rows)?;
        let part = self.model.part(rows);
        let table = Arc::new(WeightsTable::new(Arc::clone(&self.model)).with_partitions(vec![part]));
        let recipe = match (weights, changes) {
            (false, _) => recipes::STORED_BYTES,
            (true, Some(changes)) => {
                replace(session, "changes", changes)?;
                recipes::BROUGHT_BACK
            }
            (true, None) => {
                context.register_table(name, table)?;
                return Ok(());
            }
        };
        context.deregister_table("stored")?;
        context.register_table("stored", table)?;
        let view = session.sql(recipe.sql).await?.into_view();
        context.register_table(name, view)?;
        Ok(())
    }

    /// Returns the first weight of some rows that cannot be compared: that of the row that fails when it is compared with itself.
    async fn refused(&self, rows: &Run) -> Option<IoError> {
        let side = self.clone();
        let query = move |part: Part| -> BoxFuture<'static, std::result::Result<(), RunError>> {
            let itself = |run: Run| Piece { left: run.clone(), right: run, dealt: SAME_ORDER, bytes: 0 };
            let pieces: Vec<_> = part.runs.into_iter().map(itself).collect();
            let side = side.clone();
            async move { Ok(query(&pieces, &side, &side, true).await.map(drop)?) }.boxed()
        };
        if query(self.model.part(vec![rows.clone()])).await.is_ok() {
            return None;
        }
        let refused = RefusedRow::find(&self.model, vec![rows.clone()], query).await?;
        let accepted = |_: &ComputeError, _| "; only finite weights are compared".to_owned();
        Some(refused.named(&self.model, "equalization is brought back", accepted))
    }
}

/// Rows of a tensor, the same range of them in both models.
#[derive(Debug, Clone)]
pub struct Piece {
    left: Run,
    right: Run,
    /// `head` and `share` of the recipe.
    dealt: (usize, usize),
    /// The bytes of the larger of both sides, stored and widened.
    bytes: usize,
}

impl Piece {
    /// Returns the pieces of a tensor of the reference and of one of the candidate, both by number. Rows that change
    /// places among each other are in one piece.
    pub fn all(left: &Side, tensor: usize, right: &Side, other: usize, dealt: (usize, usize)) -> Vec<Self> {
        let (one, two) = (left.tensor(tensor), right.tensor(other));
        let bytes = |tensor: &Tensor| {
            let widened = if tensor.dtype.is_float() { 4 * tensor.row_length } else { 0 };
            tensor.row_bytes() + widened
        };
        let row_bytes = bytes(one).max(bytes(two));
        let piece = |rows: Range<usize>| Self {
            bytes: rows.len().saturating_mul(row_bytes),
            right: Run { tensor: other, rows: rows.start.min(two.rows)..rows.end.min(two.rows) },
            left: Run { tensor, rows },
            dealt,
        };
        cut(one.rows, row_bytes, dealt.0).map(piece).collect()
    }

    /// Returns the tensor of the reference, and where the piece begins in it.
    pub fn place(&self) -> (usize, usize) {
        (self.left.tensor, self.left.rows.start)
    }

    /// Returns pieces in batches of at most [`PIECE_BYTES`], in their order; no tensor is twice in one. A query takes
    /// milliseconds to plan, so small tensors share one.
    pub fn batches(pieces: Vec<Self>) -> Vec<Vec<Self>> {
        let (mut batches, mut bytes): (Vec<Vec<Self>>, usize) = (Vec::new(), 0);
        for piece in pieces {
            match batches.last_mut() {
                Some(batch)
                    if bytes.saturating_add(piece.bytes) <= PIECE_BYTES
                        && batch.last().is_none_or(|last| last.left.tensor != piece.left.tensor) =>
                {
                    bytes += piece.bytes;
                    batch.push(piece);
                }
                _ => {
                    bytes = piece.bytes;
                    batches.push(vec![piece]);
                }
            }
        }
        batches
    }
}

/// Runs the recipe over a batch of pieces: for each that shares rows in both models, its place and what came of it. Weights
/// that are not finite have no error. Where all bytes of a piece are the same, the refusal is kept, and told only if another
/// piece of the tensor differs.
///
/// # Errors
/// Returns the error of the first piece that fails.
pub async fn measure(pieces: &[Piece], left: &Side, right: &Side) -> Result<Vec<((usize, usize), Measured)>> {
    let error = match query(pieces, left, right, true).await {
        Ok(measured) => return Ok(measured),
        Err(error) => error,
    };
    let [piece] = pieces else {
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(Box::pin(measure(std::slice::from_ref(piece), left, right)).await?);
        }
        return Ok(all);
    };
    let named = match left.refused(&piece.left).await {
        None => right.refused(&piece.right).await,
        named => named,
    };
    let Some(named) = named else { return Err(error) };
    match query(pieces, left, right, false).await?.pop() {
        Some((place, bytes)) if bytes.same => Ok(vec![(place, Measured { refused: Some(named), ..bytes })]),
        _ => Err(external(named)),
    }
}

async fn query(pieces: &[Piece], left: &Side, right: &Side, weights: bool) -> Result<Vec<((usize, usize), Measured)>> {
    // One thread, so that rows are added up in their order; the other threads have pieces of their own.
    let session = Session::unlimited(1)?;
    let runs = |side: fn(&Piece) -> &Run| pieces.iter().map(side).cloned().collect::<Vec<_>>();
    left.register(&session, "reference", runs(|piece| &piece.left), weights).await?;
    right.register(&session, "candidate", runs(|piece| &piece.right), weights).await?;
    let name = |side: &Side, run: &Run| side.tensor(run.tensor).name.clone();
    let number = |number: fn(&Piece) -> usize| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(pieces.iter().map(|piece| number(piece) as i64)))
    };
    let names = |names: Vec<String>| -> ArrayRef { Arc::new(StringViewArray::from_iter_values(names)) };
    let pairs = RecordBatch::try_from_iter([
        ("reference", names(pieces.iter().map(|piece| name(left, &piece.left)).collect())),
        ("candidate", names(pieces.iter().map(|piece| name(right, &piece.right)).collect())),
        ("head", number(|piece| piece.dealt.0)),
        ("share", number(|piece| piece.dealt.1)),
    ])?;
    replace(&session, "pairs", pairs)?;
    let frame = session.sql(recipes::COMPARE.sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let rows = concat_batches(&schema, &frame.collect().await?)?;
    let places: HashMap<&str, (usize, usize)> =
        pieces.iter().map(|piece| (left.tensor(piece.left.tensor).name.as_str(), piece.place())).collect();
    let found = rows.column_by_name(NAME).and_then(|names| names.as_string_view_opt());
    let found = found.ok_or_else(|| internal_datafusion_err!("the recipe gives no names"))?;
    let mut measured = Vec::with_capacity(rows.num_rows());
    for row in 0..rows.num_rows() {
        let place = places.get(found.value(row));
        let place = place.ok_or_else(|| internal_datafusion_err!("the recipe gives an unknown name"))?;
        measured.push((*place, Measured::of(&rows, row)?));
    }
    Ok(measured)
}

/// Ranges of so many rows, of about [`PIECE_BYTES`] or less, cut at multiples of `together` rows.
fn cut(rows: usize, row_bytes: usize, together: usize) -> impl Iterator<Item = Range<usize>> {
    let together = together.max(1);
    let fitting = PIECE_BYTES / row_bytes.max(1) / together * together;
    let step = fitting.max(together);
    (0..rows).step_by(step).map(move |start| start..rows.min(start.saturating_add(step)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_and_keep_rows_together_that_change_places() {
        let ranges = |rows, row_bytes, together| cut(rows, row_bytes, together).collect::<Vec<_>>();
        let mib = 1 << 20;
        assert_eq!(ranges(70, mib, 1), [0..32, 32..64, 64..70]);
        assert_eq!(ranges(70, mib, 12), [0..24, 24..48, 48..70]);
        assert_eq!(ranges(70, mib, 48), [0..48, 48..70]);
        assert_eq!(ranges(3, 100 * mib, 1), [0..1, 1..2, 2..3]);
        let whole = ranges(40, 0, 0);
        assert_eq!((whole.len(), &whole[0]), (1, &(0..40)));
    }
}
