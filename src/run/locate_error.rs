//! Finds the row that makes a query fail, and names it: the query runs over halves of the rows that failed until one is left.

use arrow_array::{Array, cast::AsArray, types::Float32Type};
use datafusion::common::DataFusionError;

use super::{RunError, plan::Plan};
use crate::{
    compute::ComputeError,
    model::{
        Model,
        part::{Part, Run},
        scan::rows_of,
    },
    plan::equalization::changes::Equalization,
    sql::{
        error::{innermost, message, of_function},
        functions::error::FunctionError,
    },
    storage::error::{IoError, without_row},
    types::weights::{WEIGHTS, weights_schema},
};

/// A row of a model that a query refuses.
pub struct RefusedRow {
    tensor: usize,
    row: usize,
    error: DataFusionError,
}

impl RefusedRow {
    /// Returns the first of some rows over which a query fails, where it fails over all of them. `None` means that it fails over no
    /// rows at all as well, or in another way than by refusing one.
    pub async fn find<F: Future<Output = Result<(), RunError>>>(
        model: &Model,
        mut rows: Vec<Run>,
        query: impl Fn(Part) -> F,
    ) -> Option<Self> {
        if query(Part::default()).await.is_err() {
            return None;
        }
        while rows.iter().map(|run| run.rows.len()).sum::<usize>() > 1 {
            let second = second_half(&mut rows);
            if query(model.part(rows.clone())).await.is_ok() {
                rows = second;
            }
        }
        let run = rows.first()?;
        match query(model.part(rows.clone())).await {
            Err(RunError::Query(error)) => Some(Self { tensor: run.tensor, row: run.rows.start, error }),
            _ => None,
        }
    }

    /// Returns the error with its file, tensor and row. `change` is the word for what was done to a weight before it was refused;
    /// `accepted` says of the reason, and of whether the stored weight itself is refused, what is accepted.
    pub fn named(&self, model: &Model, change: &str, accepted: impl Fn(&ComputeError, bool) -> String) -> IoError {
        let tensor = &model.tensors()[self.tensor];
        let refuse = |problem: String| IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem);
        let row = self.row;
        let Some(FunctionError { source, .. }) = of_function(&self.error) else {
            return refuse(format!("row {row}: {}", message(&self.error)));
        };
        let (ComputeError::NonFinite { element, value, .. } | ComputeError::TooLarge { element, value, .. }) = source
        else {
            return refuse(format!("row {row}: {}", without_row(source)));
        };
        let stored = match self.stored(model, *element) {
            Ok(stored) => stored.filter(|stored| stored.to_bits() != value.to_bits()),
            Err(unreadable) => return unreadable,
        };
        let weight = match stored {
            Some(stored) => format!("{stored}, {value} when {change}"),
            None => value.to_string(),
        };
        refuse(format!("row {row}, element {element} is {weight}{}", accepted(source, stored.is_none())))
    }

    /// Returns a weight of the row as the model has it.
    fn stored(&self, model: &Model, element: usize) -> Result<Option<f32>, IoError> {
        let column = weights_schema().index_of(WEIGHTS).map_err(IoError::arrow(model.folder()))?;
        let run = Run { tensor: self.tensor, rows: self.row..self.row + 1 };
        let batch = rows_of(model, run, &[column])?;
        let rows = batch.column(0).as_list::<i32>();
        if rows.is_empty() || rows.is_null(0) {
            return Ok(None);
        }
        Ok(rows.value(0).as_primitive::<Float32Type>().values().get(element).copied())
    }
}

/// Takes the second half of some rows away, and returns it.
fn second_half(rows: &mut Vec<Run>) -> Vec<Run> {
    let mut left = rows.iter().map(|run| run.rows.len()).sum::<usize>() / 2;
    let mut second = Vec::new();
    rows.retain_mut(|run| {
        let kept = left.min(run.rows.len());
        left -= kept;
        let middle = run.rows.start + kept;
        if middle < run.rows.end {
            second.push(Run { tensor: run.tensor, rows: middle..run.rows.end });
        }
        run.rows.end = middle;
        kept > 0
    });
    second
}

impl Plan {
    /// Returns the error of a query over rows of the model, with the row that it is about, where there is one.
    pub(super) async fn located<F: Future<Output = Result<(), RunError>>>(
        &self,
        error: RunError,
        rows: Vec<Run>,
        equalization: Option<&Equalization>,
        query: impl Fn(Part) -> F,
    ) -> RunError {
        if !matches!(&error, RunError::Query(error) if may_be_of_a_row(error)) {
            return error;
        }
        match RefusedRow::find(&self.model, rows, query).await {
            Some(refused) => self.named(&refused, equalization).into(),
            None => error,
        }
    }

    fn named(&self, refused: &RefusedRow, equalization: Option<&Equalization>) -> IoError {
        let is_quantized = self.choices[refused.tensor].options.is_some();
        let name = &self.model.tensors()[refused.tensor].name;
        let is_equalized = equalization.is_some_and(|equalization| equalization.of(name).is_some());
        let is_rounded = self.export.as_ref().is_some_and(|export| export.tensors[refused.tensor].rounded.is_some());
        let change = match (is_equalized, is_rounded) {
            (true, true) => "equalized and rounded",
            (false, true) => "rounded",
            _ => "equalized",
        };
        refused.named(&self.model, change, |error, as_stored| match error {
            ComputeError::TooLarge { float, .. } => {
                let advice = match *float {
                    "F16" if self.spec.format.as_ref() == "safetensors" => " (`dtype` BF16 has more range)",
                    _ if is_quantized && as_stored => " (`exclude` leaves a tensor as it is)",
                    _ => "",
                };
                format!(", which is beyond what {float} holds{advice}")
            }
            _ if !as_stored => "; only finite weights are stored".to_owned(),
            _ if is_quantized => "; only finite weights are quantized (`exclude` leaves a tensor as it is)".to_owned(),
            _ if is_equalized => "; only finite weights are equalized".to_owned(),
            _ => "; only finite weights are stored as another type".to_owned(),
        })
    }
}

/// Returns true for an error that a query may give because of the values of a row.
fn may_be_of_a_row(error: &DataFusionError) -> bool {
    matches!(innermost(error), DataFusionError::ArrowError(..) | DataFusionError::Execution(_))
        || of_function(error).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{storage::dtype::Dtype, testing::models::write};

    fn model(folder: &tempfile::TempDir) -> Model {
        let path = folder.path().join("m.safetensors");
        write(&path, &[("a", Dtype::F32, &[3, 1], &[0; 12]), ("b", Dtype::F32, &[5, 1], &[0; 20])]);
        Model::open(&path).unwrap()
    }

    fn rows() -> Vec<Run> {
        vec![Run { tensor: 0, rows: 1..3 }, Run { tensor: 1, rows: 0..5 }]
    }

    fn refuse() -> Result<(), RunError> {
        Err(DataFusionError::Execution("no".to_owned()).into())
    }

    #[tokio::test]
    async fn the_first_row_that_is_refused_is_found_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(&folder);
        let all: Vec<_> = rows().into_iter().flat_map(|run| run.rows.map(move |row| (run.tensor, row))).collect();
        for (number, bad) in all.iter().enumerate() {
            for worse in &all[number..] {
                let query = async |part: Part| {
                    let is_in = |(tensor, row): &(usize, usize)| {
                        part.runs.iter().any(|run| run.tensor == *tensor && run.rows.contains(row))
                    };
                    if is_in(bad) || is_in(worse) { refuse() } else { Ok(()) }
                };
                let found = RefusedRow::find(&model, rows(), query).await.unwrap();
                assert_eq!((found.tensor, found.row), *bad);
            }
        }
        let message = RefusedRow { tensor: 1, row: 4, error: DataFusionError::Execution("no".to_owned()) };
        let message = message.named(&model, "", |_, _| String::new()).to_string();
        assert!(message.ends_with("m.safetensors: tensor 'b': row 4: no"), "{message}");
    }

    #[tokio::test]
    async fn an_error_that_is_of_no_row_names_none() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(&folder);
        assert!(RefusedRow::find(&model, rows(), async |_| refuse()).await.is_none());
        assert!(RefusedRow::find(&model, rows(), async |_| Ok(())).await.is_none());
        assert!(RefusedRow::find(&model, Vec::new(), async |_| Ok(())).await.is_none());
    }
}
