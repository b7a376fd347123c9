//! The size and the error of each tensor at each width: the table that widths are chosen from.

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::{
    model::Model,
    plan::{
        choices_table::{option_columns, option_fields},
        selection::Choice,
    },
    storage::error::IoError,
    types::{ErrorSums, QuantizeOptions},
};

/// The size and the error of a tensor that is quantized in one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Width {
    /// The options to quantize it with.
    pub options: QuantizeOptions,
    /// The bytes that it takes.
    pub bytes: u64,
    /// The error.
    pub errors: ErrorSums,
}

impl Width {
    /// Returns the signal-to-noise ratio in dB; infinite where nothing is lost.
    pub fn sqnr(&self) -> f64 {
        if self.errors.err2 == 0.0 { f64::INFINITY } else { self.errors.sqnr() }
    }
}

/// Returns the candidates of every tensor, one row each: what `sql/mixed_precision.sql` joins the weights with.
///
/// # Errors
/// Returns an error if Arrow refuses to build the batch.
pub fn candidates_batch(model: &Model, candidates: &[Vec<QuantizeOptions>]) -> Result<RecordBatch, IoError> {
    let tensors = model.tensors().iter().zip(candidates);
    let rows = tensors.flat_map(|(tensor, all)| all.iter().map(|options| (tensor.name.as_str(), Some(*options))));
    RecordBatch::try_new(Arc::new(Schema::new(option_fields(false))), option_columns(rows))
        .map_err(IoError::arrow(model.folder()))
}

/// Returns the schema of the widths: `name`, `bits`, `group_size`, `method`, `symmetric`, then `bytes` and
/// `bits_per_weight` with every stored bit counted, `sqnr_db` (infinite where nothing is lost), `err2` (the sum of
/// squared errors), and `chosen`.
pub fn widths_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = option_fields(false);
        fields.extend([
            Field::new("bytes", DataType::Int64, false),
            Field::new("bits_per_weight", DataType::Float64, false),
            Field::new("sqnr_db", DataType::Float64, false),
            Field::new("err2", DataType::Float64, false),
            Field::new("chosen", DataType::Boolean, false),
        ]);
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Returns the widths of every tensor of a model, one row each, and which of them were chosen.
///
/// # Errors
/// Returns an error if Arrow refuses to build the batch.
pub fn widths_batch(model: &Model, choices: &[Choice], widths: &[Vec<Width>]) -> Result<RecordBatch, IoError> {
    let tensors = || model.tensors().iter().zip(choices).zip(widths);
    let rows =
        || tensors().flat_map(|((tensor, choice), widths)| widths.iter().map(move |width| (tensor, choice, width)));
    let number = |number: fn(&Width, usize) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows().map(|(tensor, _, width)| number(width, tensor.elements()))))
    };
    let mut columns = option_columns(rows().map(|(tensor, _, width)| (tensor.name.as_str(), Some(width.options))));
    let bytes = rows().map(|(_, _, width)| i64::try_from(width.bytes).unwrap_or(i64::MAX));
    columns.extend([
        Arc::new(Int64Array::from_iter_values(bytes)) as ArrayRef,
        number(|width, weights| width.bytes as f64 * 8.0 / weights as f64),
        number(|width, _| width.sqnr()),
        number(|width, _| width.errors.err2),
        Arc::new(
            rows().map(|(_, choice, width)| Some(choice.options == Some(width.options))).collect::<BooleanArray>(),
        ),
    ]);
    RecordBatch::try_new(widths_schema(), columns).map_err(IoError::arrow(model.folder()))
}
