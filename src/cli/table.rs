//! Record batches as tables on a terminal: cells of a bearable width, a bounded number of rows.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    util::{
        display::{ArrayFormatter, FormatOptions},
        pretty::pretty_format_batches,
    },
};
use arrow_schema::{ArrowError, DataType, Field, Schema};

/// Longest text of a cell that holds a list, a struct or bytes.
const CELL: usize = 48;

/// Every cell as text, `null` for what is not there; lists, structs and bytes cut to a bearable width.
///
/// # Errors
/// When a value has no text.
pub fn as_text(batch: &RecordBatch, null: &str) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::new().with_null(null);
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let formatter = ArrayFormatter::try_new(column, &options)?;
        let cells = (0..column.len())
            .map(|row| Ok(Some(cut(formatter.value(row).try_to_string()?, column.data_type()))))
            .collect::<Result<StringArray, ArrowError>>()?;
        fields.push(Field::new(field.name(), DataType::Utf8, true));
        columns.push(Arc::new(cells));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn cut(text: String, kind: &DataType) -> String {
    let fat = kind.is_nested() || kind.is_binary();
    if !fat || text.chars().count() <= CELL {
        return text;
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}

/// The batches, already text, as one table.
///
/// # Errors
/// When the batches have different columns.
pub fn pretty(batches: &[RecordBatch]) -> Result<String, ArrowError> {
    Ok(pretty_format_batches(batches)?.to_string())
}

/// `12.3 MB`, in powers of ten, as disks are sold.
pub fn bytes(count: u64) -> String {
    scaled(count, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `7.6 G`, in powers of ten.
pub fn quantity(count: u64) -> String {
    scaled(count, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(count: u64, units: &[&str]) -> String {
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95) + usize::from(unit > 0 && value < 9.995);
    format!("{value:.digits$} {}", units[unit]).trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<_> = [0, 999, 1000, 12_345, 99_960, 999_600, 15_200_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "100 kB", "1.00 MB", "15.2 GB"]);
        assert_eq!(quantity(22_713_216), "22.7 M");
    }
}
