//! The choice for tensors whose weights are entropy-coded as a table, for the query to join.

use std::sync::{Arc, LazyLock};

use arrow_array::{Array, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::{
    model::Model,
    plan::selection::Choice,
    storage::error::IoError,
    types::{Coding, quantized::ENTROPY_GROUP_SIZE},
};

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
