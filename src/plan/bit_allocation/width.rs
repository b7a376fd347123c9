//! The size and the error of each tensor at each width: the table that widths are chosen from.

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::forms::{Form, Stored};
use crate::{
    model::{Model, tensor::Tensor},
    plan::choices_table::{option_columns, option_fields},
    storage::error::IoError,
    types::ErrorSums,
};

/// The size and the error of a tensor that is stored in one form.
#[derive(Debug, Clone, PartialEq)]
pub struct Width {
    /// The form, and the bytes that it takes.
    pub form: Form,
    /// The error.
    pub errors: ErrorSums,
}

impl Width {
    /// Returns the signal-to-noise ratio in dB; infinite where nothing is lost.
    pub fn sqnr(&self) -> f64 {
        self.errors.sqnr()
    }
}

/// The widths of every tensor of a model, and those that were chosen.
#[derive(Debug)]
pub struct Widths {
    /// The widths of each tensor, the fewest bits first; none where it is copied unchanged.
    pub of_tensors: Vec<Vec<Width>>,
    /// The position of the chosen one; 0 where there is none.
    pub chosen: Vec<usize>,
}

impl Widths {
    /// Returns the width that was chosen for a tensor.
    pub fn chosen(&self, tensor: usize) -> Option<&Width> {
        self.of_tensors.get(tensor)?.get(*self.chosen.get(tensor)?)
    }
}

/// Returns the schema of the widths: `name`; `bits`, `group_size`, `method`, `symmetric` of our own codes, or `type` of another
/// format; then `bytes` and `bits_per_weight` with every stored bit counted, `sqnr_db` (infinite where nothing is lost), `err2`
/// (the sum of squared errors), and `chosen`.
pub fn widths_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = option_fields(true);
        fields.extend([
            Field::new("type", DataType::Utf8View, true),
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
pub fn widths_batch(model: &Model, widths: &Widths) -> Result<RecordBatch, IoError> {
    let tensors = || model.tensors().iter().zip(&widths.of_tensors).zip(&widths.chosen);
    let rows = || {
        tensors().flat_map(|((tensor, widths), chosen)| {
            widths.iter().enumerate().map(move |(at, width)| (tensor, width, at == *chosen))
        })
    };
    let number = |number: fn(&Tensor, &Width) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(rows().map(|(tensor, width, _)| number(tensor, width))))
    };
    let options = rows().map(|(tensor, width, _)| match width.form.stored {
        Stored::Quantized(options) => (tensor.name.as_str(), Some(options)),
        Stored::Encoded(_) | Stored::Unchanged => (tensor.name.as_str(), None),
    });
    let types = rows().map(|(tensor, width, _)| match &width.form.stored {
        Stored::Quantized(_) => None,
        Stored::Encoded(encoding) => Some(encoding.dtype()),
        Stored::Unchanged => Some(tensor.dtype_name()),
    });
    let mut columns = option_columns(options);
    let bytes = rows().map(|(_, width, _)| i64::try_from(width.form.bytes).unwrap_or(i64::MAX));
    columns.extend([
        Arc::new(types.collect::<StringViewArray>()) as ArrayRef,
        Arc::new(Int64Array::from_iter_values(bytes)),
        number(|tensor, width| width.form.bytes as f64 * 8.0 / tensor.elements() as f64),
        number(|_, width| width.sqnr()),
        number(|_, width| width.errors.err2),
        Arc::new(rows().map(|(_, _, chosen)| Some(chosen)).collect::<BooleanArray>()),
    ]);
    RecordBatch::try_new(widths_schema(), columns).map_err(IoError::arrow(model.folder()))
}
