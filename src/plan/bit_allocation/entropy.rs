//! The choice for tensors whose weights are entropy-coded, and the table of it that the query joins.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::{
    model::{Model, tensor::Tensor},
    plan::selection::Choice,
    storage::error::IoError,
    types::{
        Coding,
        quantized::{ENTROPY_GROUP_SIZE, ENTROPY_ROW_BYTES},
    },
};

/// The rate of a tensor whose weights are entropy-coded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entropy {
    /// Bits a weight of the codes: the most that a row may take, or, with a step, what was measured.
    pub bits: f64,
    /// The step of all rows. `None` means that each row has its own.
    pub step: Option<f32>,
}

impl Entropy {
    /// Returns the bytes that a tensor takes, at most where its rows have steps of their own.
    #[must_use]
    pub fn bytes(&self, tensor: &Tensor) -> u64 {
        let codes = match self.step {
            None => (self.bits * tensor.row_length as f64 / 8.0) as u64 * tensor.rows as u64,
            Some(_) => (self.bits * tensor.elements() as f64 / 8.0).round() as u64,
        };
        codes + (ENTROPY_ROW_BYTES * tensor.rows) as u64
    }
}

/// Returns the schema of the choices: `name`; `bits`, `group_size`, `method` and `step` of entropy-coded weights, null for a
/// tensor that is copied unchanged, the step also where each row has its own; `note`, null where there is nothing to say.
pub fn entropy_choices_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, false),
            Field::new("bits", DataType::Float64, true),
            Field::new("group_size", DataType::Int64, true),
            Field::new("method", DataType::Utf8View, true),
            Field::new("step", DataType::Float64, true),
            Field::new("note", DataType::Utf8View, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Returns the choices for a model's tensors, one row each.
///
/// # Errors
/// Returns an error if there is not one choice for each tensor.
pub fn entropy_choices_batch(model: &Model, choices: &[Choice]) -> Result<RecordBatch, IoError> {
    let coded = || choices.iter().map(|choice| choice.entropy);
    let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
    let notes = choices.iter().map(|choice| Some(choice.note.as_str()).filter(|note| !note.is_empty()));
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(coded().map(|one| one.map(|one| one.bits)).collect::<Float64Array>()),
        Arc::new(coded().map(|one| one.map(|_| i64::from(ENTROPY_GROUP_SIZE))).collect::<Int64Array>()),
        Arc::new(coded().map(|one| one.map(|_| Coding::ENTROPY)).collect::<StringViewArray>()),
        Arc::new(coded().map(|one| one?.step.map(f64::from)).collect::<Float64Array>()),
        Arc::new(notes.collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(entropy_choices_schema(), columns).map_err(IoError::arrow(model.folder()))
}
