//! Rows of a tensor of one model, compared with those of the other that belong to them.

use std::{ops::Range, sync::Arc};

use arrow::compute::concat_batches;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, cast::AsArray, types::Float64Type};
use datafusion::{
    catalog::MemTable,
    common::{ParamValues, Result, ScalarValue, internal_datafusion_err},
};

use super::difference::Difference;
use crate::{
    compute::{ComputeError, equalize_rows, error_stats},
    model::{Model, part::Run, tensor::Tensor},
    run::error_row::Refused,
    sql::{
        Session, recipes,
        tables::{WeightsTable, external},
    },
    storage::{error::IoError, folder::error_sums::ErrorSums},
    types::weights::NAME,
};

/// Bytes of the rows of one side of a piece, stored and widened to f32, at most. A query takes milliseconds to plan, as
/// long as it takes to compare some MiB.
const PIECE_BYTES: usize = 32 << 20;

/// One of the two models.
#[derive(Clone)]
pub struct Side {
    pub model: Arc<Model>,
    /// What equalization changed of it and is to be brought back, a row for each tensor.
    changes: Option<RecordBatch>,
}

impl Side {
    pub fn new(model: Model, changes: Option<RecordBatch>) -> Self {
        Self { model: Arc::new(model), changes }
    }

    pub fn tensor(&self, number: usize) -> &Tensor {
        &self.model.tensors()[number]
    }

    /// What equalization changed of a tensor: one row, if there is one.
    fn changes_of(&self, tensor: &str) -> Option<RecordBatch> {
        let changes = self.changes.as_ref()?;
        let names = changes.column_by_name(NAME)?.as_string_view();
        let row = names.iter().position(|name| name == Some(tensor))?;
        Some(changes.slice(row, 1))
    }

    /// Makes rows of a tensor the table `name`, with what equalization changed of them brought back. Without weights they
    /// are bytes alone.
    async fn register(&self, session: &Session, name: &str, rows: Run, weights: bool) -> Result<()> {
        let context = session.context();
        let changes = self.changes_of(&self.tensor(rows.tensor).name);
        let part = self.model.part(vec![rows]);
        let table = Arc::new(WeightsTable::new(Arc::clone(&self.model)).with_partitions(vec![part]));
        if !weights {
            context.register_table(format!("{name}_stored"), table)?;
            let view = format!("SELECT name, dtype, channel, data, NULL AS weights FROM {name}_stored");
            let view = context.sql(&view).await?.into_view();
            context.register_table(name, view)?;
            return Ok(());
        }
        let Some(changes) = changes else {
            context.register_table(name, table)?;
            return Ok(());
        };
        let (stored, changed) = (format!("{name}_stored"), format!("{name}_changes"));
        context.register_table(&stored, table)?;
        context.register_table(&changed, Arc::new(MemTable::try_new(changes.schema(), vec![vec![changes]])?))?;
        let view = format!(
            "SELECT {stored}.name, dtype, channel, data, coalesce( \
               equalize(weights, back_factors, channel, back_row_factors, back_offsets), weights) AS weights \
             FROM {stored} LEFT JOIN {changed} ON {stored}.name = {changed}.name"
        );
        let view = context.sql(&view).await?.into_view();
        context.register_table(name, view)?;
        Ok(())
    }

    /// The first weight of some rows that cannot be compared.
    fn refused(&self, rows: &Run) -> std::result::Result<Option<IoError>, IoError> {
        let tensor = self.tensor(rows.tensor);
        let changes = self.changes_of(&tensor.name);
        let compared = |weights: &ArrayRef, first: usize| {
            // Measures finite rows alone.
            error_stats(weights, weights)?;
            let Some(changes) = &changes else { return Ok(()) };
            let list = |name: &str| {
                let missing = || ComputeError::InvalidArgument(format!("the changes have no column {name}"));
                changes.column_by_name(name).ok_or_else(missing)
            };
            let channels = Int64Array::from_iter_values(first as i64..(first + weights.len()) as i64);
            let (factors, rows, offsets) = (list("back_factors")?, list("back_row_factors")?, list("back_offsets")?);
            equalize_rows(weights, factors, &channels, rows, Some(offsets)).map(drop)
        };
        let refused = Refused::first(&self.model, rows, "equalization is brought back", compared)?;
        Ok(refused.map(|refused| {
            let problem = format!("{refused}; only finite weights are compared");
            IoError::tensor(&self.model.file_of(tensor).path, &tensor.name, problem)
        }))
    }
}

/// Rows of a tensor, the same range of them in both models.
#[derive(Debug)]
pub struct Piece {
    left: Run,
    right: Run,
    /// `$head` and `$share` of the recipe.
    dealt: (usize, usize),
}

impl Piece {
    /// The pieces of a tensor of the reference and of one of the candidate, both by number. Rows that change places among
    /// each other are in one piece.
    pub fn all(left: &Side, tensor: usize, right: &Side, other: usize, dealt: (usize, usize)) -> Vec<Self> {
        let (one, two) = (left.tensor(tensor), right.tensor(other));
        let bytes = |tensor: &Tensor| {
            let widened = if tensor.dtype.is_float() { 4 * tensor.row_length } else { 0 };
            tensor.row_bytes() + widened
        };
        let piece = |rows: Range<usize>| Self {
            right: Run { tensor: other, rows: rows.start.min(two.rows)..rows.end.min(two.rows) },
            left: Run { tensor, rows },
            dealt,
        };
        cut(one.rows, bytes(one).max(bytes(two)), dealt.0).map(piece).collect()
    }

    /// The tensor of the reference, and where the piece begins in it.
    pub fn place(&self) -> (usize, usize) {
        (self.left.tensor, self.left.rows.start)
    }

    /// Runs the recipe over the piece: `None` where the two models share no row of it. Weights that are not finite have no
    /// error. Where all bytes of the piece are the same, the refusal is kept, and told only if another piece of the tensor
    /// differs.
    pub async fn measure(&self, left: &Side, right: &Side) -> Result<Option<Measured>> {
        let error = match self.query(left, right, true).await {
            Ok(measured) => return Ok(measured),
            Err(error) => error,
        };
        let named = match left.refused(&self.left).map_err(external)? {
            None => right.refused(&self.right).map_err(external)?,
            named => named,
        };
        let Some(named) = named else { return Err(error) };
        match self.query(left, right, false).await? {
            Some(bytes) if bytes.same => Ok(Some(Measured { refused: Some(named), ..bytes })),
            _ => Err(external(named)),
        }
    }

    async fn query(&self, left: &Side, right: &Side, weights: bool) -> Result<Option<Measured>> {
        // One thread, so that rows are added up in their order; the other threads have pieces of their own.
        let session = Session::unlimited(1)?;
        left.register(&session, "reference", self.left.clone(), weights).await?;
        right.register(&session, "candidate", self.right.clone(), weights).await?;
        let name = |side: &Side, run: &Run| ScalarValue::from(side.tensor(run.tensor).name.as_str());
        let (head, share) = self.dealt;
        let parameters = ParamValues::from(vec![
            ("reference", name(left, &self.left)),
            ("candidate", name(right, &self.right)),
            ("head", ScalarValue::Int64(Some(head as i64))),
            ("share", ScalarValue::Int64(Some(share as i64))),
        ]);
        let frame = session.sql(recipes::COMPARE.sql).await?.with_param_values(parameters)?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let row = concat_batches(&schema, &frame.collect().await?)?;
        if row.num_rows() == 1 { Measured::of(&row).map(Some) } else { Ok(None) }
    }
}

/// Ranges of so many rows, of about [`PIECE_BYTES`] or less, cut at multiples of `together` rows.
fn cut(rows: usize, row_bytes: usize, together: usize) -> impl Iterator<Item = Range<usize>> {
    let together = together.max(1);
    let fitting = PIECE_BYTES / row_bytes.max(1) / together * together;
    let step = fitting.max(together);
    (0..rows).step_by(step).map(move |start| start..rows.min(start.saturating_add(step)))
}

/// What the recipe gives.
#[derive(Debug)]
pub struct Measured {
    /// Whether the stored bytes are the same.
    same: bool,
    /// The error sums, where the rows are floats.
    errors: Option<ErrorSums>,
    /// Why rows that are the same have none.
    refused: Option<IoError>,
}

impl Measured {
    fn of(row: &RecordBatch) -> Result<Self> {
        let column = |name: &str| {
            row.column_by_name(name).ok_or_else(|| internal_datafusion_err!("the recipe gives no column {name}"))
        };
        let same = column("same")?.as_boolean();
        let figure = |name: &str| {
            let figure = column(name)?.as_primitive::<Float64Type>();
            Ok::<_, datafusion::common::DataFusionError>(figure.is_valid(0).then(|| figure.value(0)))
        };
        let value = |name: &str| Ok::<_, datafusion::common::DataFusionError>(figure(name)?.unwrap_or_default());
        let errors = match figure("err2")? {
            None => None,
            Some(err2) => Some(ErrorSums {
                dot: value("dot")?,
                a2: value("a2")?,
                b2: value("b2")?,
                err2,
                max_abs: value("max_abs")?,
                n: value("n")? as u64,
            }),
        };
        Ok(Self { same: same.is_valid(0) && same.value(0), errors, refused: None })
    }

    /// Both together.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let errors = match (self.errors, other.errors) {
            (Some(errors), Some(others)) => Some(errors.merge(others)),
            (errors, others) => errors.or(others),
        };
        Self { same: self.same && other.same, errors, refused: self.refused.or(other.refused) }
    }

    /// What that says of the tensor.
    ///
    /// # Errors
    /// Some of its bytes differ, and others stand for weights that are not finite.
    pub fn difference(self) -> Result<Difference> {
        match (self.errors, self.refused) {
            _ if self.same => Ok(Difference::Identical),
            (_, Some(refused)) => Err(external(refused)),
            (None, None) => Ok(Difference::Bytes),
            (Some(errors), None) => Ok(Difference::Error(errors)),
        }
    }
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
