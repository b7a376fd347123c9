//! A small table as a statement of SQL.

use arrow::compute::cast;
use arrow_array::{
    Array, ArrayRef, RecordBatch,
    cast::AsArray,
    types::{Float32Type, Float64Type, Int64Type},
};
use arrow_schema::DataType;
use datafusion::common::{Result, plan_err};

/// Returns `CREATE TABLE name AS ...` with every row of a batch: columns of `Int64`, `Float64`, `Boolean`,
/// strings, and lists of `Float32`. A batch without rows may have columns of any type: it is a view that the planner knows to be empty.
///
/// # Errors
/// Returns an error if a column of rows has another type.
pub fn create_table(name: &str, batch: &RecordBatch) -> Result<String> {
    let schema = batch.schema();
    let (mut columns, mut types) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let kind = match field.data_type() {
            kind @ (DataType::Int64 | DataType::Float64) => kind.clone(),
            DataType::Boolean => DataType::Boolean,
            DataType::Utf8View | DataType::Utf8 => DataType::Utf8View,
            DataType::List(item) | DataType::ListView(item) if *item.data_type() == DataType::Float32 => {
                DataType::List(item.clone())
            }
            other if batch.num_rows() == 0 => other.clone(),
            other => return plan_err!("column {} of table {name}, {other}, cannot be written as SQL", field.name()),
        };
        columns.push(cast(column, &kind)?);
        types.push(match kind {
            DataType::List(item) if *item.data_type() == DataType::Float32 => "List(Float32)".to_owned(),
            kind => kind.to_string(),
        });
    }
    let casts = schema.fields().iter().zip(&types).enumerate();
    let casts = casts.map(|(number, (field, kind))| {
        format!("arrow_cast(column{}, {}) AS {}", number + 1, quoted(kind), field.name())
    });
    let casts = casts.collect::<Vec<_>>().join(", ");
    let row = |row: usize| columns.iter().map(|column| literal(column, row)).collect::<Vec<_>>().join(", ");
    let rows: Vec<String> = (0..batch.num_rows()).map(|number| format!("({})", row(number))).collect();
    // VALUES needs a row.
    let (kind, rows, none) = if rows.is_empty() {
        ("VIEW", format!("({})", vec!["NULL"; columns.len()].join(", ")), " WHERE false")
    } else {
        ("TABLE", rows.join(",\n  "), "")
    };
    Ok(format!("CREATE {kind} {name} AS SELECT {casts} FROM (VALUES\n  {rows}\n){none};"))
}

/// Returns a text as a literal of SQL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn literal(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        // Every digit.
        DataType::Float64 => format!("{:?}", column.as_primitive::<Float64Type>().value(row)),
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::List(_) => {
            let values = column.as_list::<i32>().value(row);
            let values = values.as_primitive::<Float32Type>().iter();
            // Every digit, so that the cast gives the same float.
            let values = values.map(|value| value.map_or("NULL".to_owned(), |value| format!("{:?}", f64::from(value))));
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        }
        _ => quoted(column.as_string_view().value(row)),
    }
}
