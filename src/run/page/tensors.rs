//! The loss of each tensor, from a report or from a comparison.

use std::path::Path;

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};

use crate::{
    run::compare::{Compared, difference::Difference},
    storage::{error::IoError, parquet_table::column},
    types::{
        quantized::BITS,
        report::{BYTES_IN, BYTES_OUT, MSE, NOTE, SQNR_DB, report_schema},
        weights::{NAME, SHAPE},
    },
};

/// A tensor, what it takes and what it lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Loss {
    pub name: String,
    pub weights: f64,
    /// `None` means that it is copied.
    pub bits: Option<i64>,
    /// `None` means that nothing was measured. Infinite where nothing was lost.
    pub sqnr: Option<f64>,
    /// The squared error of all weights.
    pub error: f64,
    /// The bytes before and after; 0 where they are not known.
    pub bytes: (u64, u64),
    pub note: String,
}

impl Loss {
    /// Returns the name with a star for each number: tensors that share it do the same in different blocks.
    pub fn kind(&self) -> String {
        let starred =
            |part: &'_ str| if part.bytes().all(|byte| byte.is_ascii_digit()) { "*".into() } else { part.to_owned() };
        self.name.split('.').map(starred).collect::<Vec<_>>().join(".")
    }
}

/// Returns the losses of a report.
///
/// # Errors
/// Returns an error if a column is missing, or is of another type.
pub fn losses(path: &Path, report: &RecordBatch) -> Result<Vec<Loss>, IoError> {
    let schema = report_schema();
    let get = |name| column(path, report, &schema, name);
    let (names, shapes, notes) = (get(NAME)?, get(SHAPE)?, get(NOTE)?);
    let (bits, bytes_in, bytes_out) = (get(BITS)?, get(BYTES_IN)?, get(BYTES_OUT)?);
    let (sqnr, mse) = (get(SQNR_DB)?, get(MSE)?);
    let (names, notes, shapes) = (names.as_string_view(), notes.as_string_view(), shapes.as_list::<i32>());
    let (bits, sqnr, mse) =
        (bits.as_primitive::<Int64Type>(), sqnr.as_primitive::<Float64Type>(), mse.as_primitive::<Float64Type>());
    let bytes = [bytes_in.as_primitive::<Int64Type>(), bytes_out.as_primitive::<Int64Type>()];
    let one = |row: usize| {
        let shape = shapes.value(row);
        let weights: f64 = shape.as_primitive::<Int64Type>().values().iter().map(|size| *size as f64).product();
        let [before, after] = bytes.map(|bytes| bytes.value(row).max(0) as u64);
        Loss {
            name: names.value(row).to_owned(),
            weights,
            bits: bits.is_valid(row).then(|| bits.value(row)),
            sqnr: sqnr.is_valid(row).then(|| sqnr.value(row)),
            error: if mse.is_valid(row) { mse.value(row) * weights } else { 0.0 },
            bytes: (before, after),
            note: if notes.is_valid(row) { notes.value(row).to_owned() } else { String::new() },
        }
    };
    Ok((0..report.num_rows()).map(one).collect())
}

/// Returns the losses that a comparison measured.
pub fn of_compared(compared: &[Compared]) -> Vec<Loss> {
    let one = |tensor: &Compared| {
        let Difference::Error(sums) = &tensor.difference else { return None };
        Some(Loss {
            name: tensor.name.clone(),
            weights: sums.n as f64,
            bits: None,
            sqnr: Some(sums.sqnr()),
            error: sums.err2,
            bytes: (0, 0),
            note: String::new(),
        })
    };
    compared.iter().filter_map(one).collect()
}
