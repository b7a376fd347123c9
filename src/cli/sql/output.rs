//! The forms in which results are printed.

use std::fmt::Write;

use arrow::{
    csv,
    json::{ArrayWriter, LineDelimitedWriter, WriterBuilder},
};
use arrow_array::{RecordBatch, cast::AsArray};
use arrow_schema::ArrowError;

use crate::cli::table;

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table of the first rows, with long values cut short
    Table,
    /// An array of JSON objects
    Json,
    /// A JSON object on each line
    Ndjson,
    /// Comma-separated values under a heading, lists as text
    Csv,
    /// A Markdown table
    Markdown,
    /// A line for each value
    Line,
}

/// Turns batches into the bytes of a form, one after the other.
pub struct Encoder {
    form: Form,
    /// True after the first batch, and of lines after the first row.
    begun: bool,
}

enum Form {
    Json(ArrayWriter<Vec<u8>>),
    Ndjson(LineDelimitedWriter<Vec<u8>>),
    Csv,
    Markdown,
    Line,
}

impl Encoder {
    /// Returns the encoder of a form. `None` means the table, which needs all its rows at once.
    pub fn new(format: Format) -> Option<Self> {
        let json = WriterBuilder::new().with_explicit_nulls(true);
        let form = match format {
            Format::Table => return None,
            Format::Json => Form::Json(json.build(Vec::new())),
            Format::Ndjson => Form::Ndjson(json.build(Vec::new())),
            Format::Csv => Form::Csv,
            Format::Markdown => Form::Markdown,
            Format::Line => Form::Line,
        };
        Some(Self { form, begun: false })
    }

    /// Returns the bytes of a batch; those of the first one, which may have no rows, begin with the heading.
    ///
    /// # Errors
    /// Returns an error if the form has none for a type.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let header = !self.begun;
        match &mut self.form {
            Form::Json(writer) => writer.write(batch).map(|()| std::mem::take(writer.get_mut())),
            Form::Ndjson(writer) => writer.write(batch).map(|()| std::mem::take(writer.get_mut())),
            Form::Csv => {
                self.begun = true;
                let mut bytes = Vec::new();
                let mut writer = csv::WriterBuilder::new().with_header(header).build(&mut bytes);
                writer.write(&table::nested_as_text(batch)?)?;
                drop(writer);
                Ok(bytes)
            }
            Form::Markdown => {
                self.begun = true;
                Ok(markdown(&table::whole_text(batch, "")?, header).into_bytes())
            }
            Form::Line => Ok(lines(&table::whole_text(batch, "NULL")?, &mut self.begun).into_bytes()),
        }
    }

    /// Returns the bytes after the last batch.
    ///
    /// # Errors
    /// Returns an error of the writer.
    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        let Form::Json(mut writer) = self.form else { return Ok(Vec::new()) };
        writer.finish()?;
        let mut bytes = writer.into_inner();
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Returns the rows of a batch of texts as those of a Markdown table.
fn markdown(batch: &RecordBatch, header: bool) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let escaped = |cell: &str| cell.replace('|', "\\|").replace('\n', "<br>");
    let mut text = String::new();
    if header {
        let schema = batch.schema();
        let names: Vec<String> = schema.fields().iter().map(|field| escaped(field.name())).collect();
        text += &line(names);
        text.push('|');
        text += &"---|".repeat(batch.num_columns());
        text.push('\n');
    }
    for row in 0..batch.num_rows() {
        text += &line(batch.columns().iter().map(|column| escaped(column.as_string::<i32>().value(row))).collect());
    }
    text
}

/// Returns each value of a batch of texts as a line with its name, and an empty line between rows.
fn lines(batch: &RecordBatch, begun: &mut bool) -> String {
    let schema = batch.schema();
    let width = table::width("", schema.fields().iter().map(|field| field.name()));
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        if std::mem::replace(begun, true) {
            text.push('\n');
        }
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            let value = column.as_string::<i32>().value(row);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:>width$} = {value}", field.name());
        }
    }
    text
}
