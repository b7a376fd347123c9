//! Record batches as tables on a terminal: cells of a bounded width, a bounded number of rows.

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    util::{
        display::{ArrayFormatter, FormatOptions, ValueFormatter},
        pretty::pretty_format_batches,
    },
};
use arrow_schema::{ArrowError, DataType, Field, Schema};

use crate::storage::escape::escaped;

/// Longest text of a cell that holds a list, a struct or bytes.
const CELL: usize = 48;

/// Returns every cell as text, `null` for what is not there; lists, structs and bytes cut to a bounded width.
///
/// # Errors
/// Returns an error if a value has no text.
pub fn as_text(batch: &RecordBatch, null: &str) -> Result<RecordBatch, ArrowError> {
    texts(batch, null, cell)
}

/// Returns every cell as text, `null` for what is not there, however long.
///
/// # Errors
/// Returns an error if a value has no text.
pub fn whole_text(batch: &RecordBatch, null: &str) -> Result<RecordBatch, ArrowError> {
    texts(batch, null, |value, _| value.try_to_string())
}

/// Returns the batch with lists, structs and bytes as text.
///
/// # Errors
/// Returns an error if a value has no text.
pub fn nested_as_text(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !column.data_type().is_nested() && !column.data_type().is_binary() {
            return Ok((field.name().clone(), Arc::clone(column)));
        }
        let formatter = ArrayFormatter::try_new(column, &FormatOptions::new())?;
        let value = |row| if column.is_null(row) { Ok(None) } else { formatter.value(row).try_to_string().map(Some) };
        let text = (0..column.len()).map(value).collect::<Result<StringArray, ArrowError>>()?;
        Ok((field.name().clone(), Arc::new(text) as ArrayRef))
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    let fields = columns.iter().map(|(name, column)| Field::new(name, column.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect())
}

/// Returns every cell as the text that `text` makes of it.
fn texts(
    batch: &RecordBatch,
    null: &str,
    text: impl Fn(&ValueFormatter, &DataType) -> Result<String, ArrowError>,
) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::new().with_null(null);
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let cells = (0..column.len())
            .map(|row| Ok(Some(lines(&text(&formatter.value(row), column.data_type())?))))
            .collect::<Result<StringArray, ArrowError>>()?;
        fields.push(Field::new(escaped(field.name()), DataType::Utf8, true));
        columns.push(Arc::new(cells));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Returns a text of several lines, such as a plan, with each of them as a terminal may show it.
fn lines(text: &str) -> String {
    text.split('\n').map(|line| escaped(&line)).collect::<Vec<_>>().join("\n")
}

/// Returns the text of a value, that of a long one cut before all of it is made.
fn cell(value: &ValueFormatter, kind: &DataType) -> Result<String, ArrowError> {
    if !kind.is_nested() && !kind.is_binary() {
        return value.try_to_string();
    }
    let mut cell = Cell { text: String::new(), left: CELL + 1 };
    // What is not cut and not whole cannot be written.
    if value.write(&mut cell).is_err() && cell.left > 0 {
        return value.try_to_string();
    }
    if cell.left == 0 {
        let end = cell.text.char_indices().nth(CELL - 1).map_or(0, |(end, _)| end);
        cell.text.truncate(end);
        cell.text.push('…');
    }
    Ok(cell.text)
}

/// The first characters of a text. It refuses more, so that who writes it stops.
struct Cell {
    text: String,
    /// The characters that it may still take.
    left: usize,
}

impl fmt::Write for Cell {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                return Err(fmt::Error);
            }
            self.left -= 1;
            self.text.push(character);
        }
        Ok(())
    }
}

pub use crate::run::quantity::{bytes, quantity};

/// The widest column of names: a longer name stands out of it.
const WIDEST: usize = 120;

/// Returns the width of a column of names, as [`escaped`], under a title.
pub fn width<'a>(title: &str, names: impl Iterator<Item = &'a String>) -> usize {
    let widest = names.map(|name| name.chars().count()).max().unwrap_or(0);
    widest.min(WIDEST).max(title.len())
}

/// Returns the batches, already text, as one table.
///
/// # Errors
/// Returns an error if the batches have different columns.
pub fn pretty(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    Ok(pretty_format_batches(batches)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_before_all_of_it_is_text() {
        use arrow_array::{BinaryArray, ListArray, types::Int32Type};

        let bytes = [24, 25, 1 << 20].map(|length| vec![0xE4; length]);
        let bytes: ArrayRef = Arc::new(BinaryArray::from_iter_values(&bytes));
        // Twelve numbers take 48 characters with their brackets.
        let numbers = |count: i32| Some((0..count).map(|_| Some(10)));
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([numbers(12), numbers(13), None]));
        let batch = RecordBatch::try_from_iter([("bytes", bytes), ("lists", lists)]).unwrap();
        let shown = as_text(&batch, "NULL").unwrap();
        let column = |number: usize| shown.column(number).as_any().downcast_ref::<StringArray>().unwrap().clone();
        let whole = ["e4".repeat(24), format!("{}e…", "e4".repeat(23)), format!("{}e…", "e4".repeat(23))];
        assert_eq!(column(0), StringArray::from_iter_values(&whole));
        let tens = ["10"; 12].join(", ");
        assert_eq!(column(1), StringArray::from_iter_values([format!("[{tens}]"), format!("[{tens}…"), "NULL".into()]));
    }

    #[test]
    fn a_name_neither_widens_a_column_without_bound_nor_reaches_the_terminal() {
        let names = ["ab".to_owned(), "n".repeat(70_000)];
        assert_eq!((width("tensor", names[..1].iter()), width("tensor", names.iter())), (6, WIDEST));
        let cells: ArrayRef = Arc::new(StringArray::from(vec!["a\u{1b}[2J\tb", "two\nlines", &names[1]]));
        let batch = RecordBatch::try_from_iter([("n\u{7}", cells)]).unwrap();
        let text = as_text(&batch, "").unwrap();
        assert_eq!(text.schema().field(0).name(), r"n\u{7}");
        let shown: Vec<_> = text.column(0).as_any().downcast_ref::<StringArray>().unwrap().iter().flatten().collect();
        assert_eq!(shown[..2], [r"a\u{1b}[2J\tb", "two\nlines"]);
        assert!(pretty(&[text]).unwrap().len() > 70_000);
    }
}
