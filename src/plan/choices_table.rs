//! The choice as a table, for SQL to join the weights with.

use std::sync::{Arc, LazyLock};

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::selection::Choice;
use crate::{model::Model, storage::error::IoError, types::QuantizeOptions};

/// Returns the columns that say of each tensor how it is quantized: `name`, then `bits`, `group_size`, `method` and
/// `symmetric`, which may all be null.
pub fn option_fields(nullable: bool) -> Vec<Field> {
    vec![
        Field::new("name", DataType::Utf8View, false),
        Field::new("bits", DataType::Int64, nullable),
        Field::new("group_size", DataType::Int64, nullable),
        Field::new("method", DataType::Utf8View, nullable),
        Field::new("symmetric", DataType::Boolean, nullable),
    ]
}

/// Returns the columns of the options, one row for each name.
pub fn option_columns<'a>(rows: impl Iterator<Item = (&'a str, Option<QuantizeOptions>)>) -> Vec<ArrayRef> {
    let (names, options): (Vec<&str>, Vec<Option<QuantizeOptions>>) = rows.unzip();
    let number = |number: fn(QuantizeOptions) -> i64| -> ArrayRef {
        Arc::new(options.iter().map(|options| options.map(number)).collect::<Int64Array>())
    };
    let methods = options.iter().map(|options| options.map(|options| options.method.name()));
    let symmetric = options.iter().map(|options| options.map(|options| options.symmetric));
    vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        number(|options| i64::from(options.bits.get())),
        number(|options| i64::from(options.group_size())),
        Arc::new(methods.collect::<StringViewArray>()),
        Arc::new(symmetric.collect::<BooleanArray>()),
    ]
}

/// Returns the schema of the choices: [`option_fields`], all but the name null for a tensor that is copied unchanged,
/// and `note`, null where there is nothing to say.
pub fn choices_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = option_fields(true);
        fields.push(Field::new("note", DataType::Utf8View, true));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Returns the choices for a model's tensors, one row each.
///
/// # Errors
/// Returns an error if there is not one choice for each tensor.
pub fn choices_batch(model: &Model, choices: &[Choice]) -> Result<RecordBatch, IoError> {
    let options = choices.iter().map(|choice| choice.options).chain(std::iter::repeat(None));
    let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
    let mut columns = option_columns(names.zip(options));
    let notes = choices.iter().map(|choice| Some(choice.note.as_str()).filter(|note| !note.is_empty()));
    columns.push(Arc::new(notes.collect::<StringViewArray>()));
    RecordBatch::try_new(choices_schema(), columns).map_err(IoError::arrow(model.folder()))
}
