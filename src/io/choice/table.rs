//! The choice as a table, for SQL to join the weights with.

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::Choice;
use crate::{
    io::{IoError, Model},
    types::QuantizeOptions,
};

/// The schema of the choices: `name`, then `bits`, `group_size`, `method` and `symmetric`, all null for a tensor that is
/// carried, and `note`, null where there is nothing to say.
pub fn choices_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8View, false),
            Field::new("bits", DataType::Int64, true),
            Field::new("group_size", DataType::Int64, true),
            Field::new("method", DataType::Utf8View, true),
            Field::new("symmetric", DataType::Boolean, true),
            Field::new("note", DataType::Utf8View, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The choices for a model's tensors, one row each.
///
/// # Errors
/// There is not one choice for each tensor.
pub fn choices_batch(model: &Model, choices: &[Choice]) -> Result<RecordBatch, IoError> {
    let number = |number: fn(&QuantizeOptions) -> i64| -> ArrayRef {
        Arc::new(choices.iter().map(|choice| choice.options.as_ref().map(number)).collect::<Int64Array>())
    };
    let methods = choices.iter().map(|choice| choice.options.map(|options| options.method.name()));
    let symmetric = choices.iter().map(|choice| choice.options.map(|options| options.symmetric));
    let notes = choices.iter().map(|choice| Some(choice.note.as_str()).filter(|note| !note.is_empty()));
    let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
    RecordBatch::try_new(
        choices_schema(),
        vec![
            Arc::new(StringViewArray::from_iter_values(names)),
            number(|options| i64::from(options.bits.get())),
            number(|options| i64::from(options.group_size())),
            Arc::new(methods.collect::<StringViewArray>()),
            Arc::new(symmetric.collect::<BooleanArray>()),
            Arc::new(notes.collect::<StringViewArray>()),
        ],
    )
    .map_err(IoError::arrow(model.folder()))
}
