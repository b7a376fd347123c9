//! The SQL reference, generated from the functions' own documentation.

use std::fmt::Write;

use datafusion::{
    common::{Result, internal_datafusion_err},
    logical_expr::Documentation,
};

use super::functions::{aggregate_functions, scalar_functions};

/// The reference entry of one function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The function's name.
    pub name: String,
    /// `Scalar functions`, `Aggregate functions` or `Table functions`.
    pub section: &'static str,
    /// The call, with its arguments.
    pub syntax: String,
    /// The result, in sentences.
    pub description: String,
    /// Name and meaning of each argument.
    pub arguments: Vec<(String, String)>,
    /// A query that stands alone; empty for a table function, which needs a file.
    pub example: String,
}

impl Entry {
    fn new(name: &str, documentation: Option<&Documentation>) -> Result<Self> {
        let documentation =
            documentation.ok_or_else(|| internal_datafusion_err!("function {name} has no documentation"))?;
        Ok(Self {
            name: name.into(),
            section: documentation.doc_section.label,
            syntax: documentation.syntax_example.clone(),
            description: documentation.description.clone(),
            arguments: documentation.arguments.clone().unwrap_or_default(),
            example: documentation.sql_example.clone().unwrap_or_default(),
        })
    }

    fn table(name: &str, description: &str) -> Self {
        Self {
            name: name.into(),
            section: "Table functions",
            syntax: format!("{name}(path)"),
            description: description.into(),
            arguments: vec![(
                "path".into(),
                "a safetensors file, a folder of shards, a diffusers folder, a folder that compressed-tensors packed or one that `arrow-quant quantize` made, in single quotes".into(),
            )],
            example: String::new(),
        }
    }

    /// Returns the first sentence of the description.
    pub fn summary(&self) -> &str {
        // A colon ends the summary as well: what follows spells out.
        let end = self.description.find(['.', ':']).unwrap_or(self.description.len());
        &self.description[..end]
    }

    /// Returns the entry as text for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n{}\n", self.syntax, self.description);
        for (name, meaning) in &self.arguments {
            let _ = write!(text, "\n  {name:<12} {meaning}");
        }
        if !self.example.is_empty() {
            let _ = write!(text, "\n\nexample:\n  {}", self.example);
        }
        text.push('\n');
        text
    }
}

/// Returns every function, in the order of the list.
///
/// # Errors
/// Returns an error if a function has no documentation.
pub fn entries() -> Result<Vec<Entry>> {
    let scalars = scalar_functions()?;
    let aggregates = aggregate_functions(None);
    let scalars = scalars.iter().map(|function| Entry::new(function.name(), function.documentation()));
    let aggregates = aggregates.iter().map(|function| Entry::new(function.name(), function.documentation()));
    let tables = [
        Entry::table("safetensors", "The weights table of a model: one row per output channel."),
        Entry::table("gguf", "The same table, by another name: what the files are they say themselves."),
        Entry::table("tensors", "The tensors table of a model: one row per tensor, known from the headers alone."),
    ];
    scalars.chain(aggregates).chain(tables.map(Ok)).collect()
}

/// Returns the reference page, `docs/sql_reference.md`.
///
/// # Errors
/// Returns an error if a function has no documentation.
pub fn markdown() -> Result<String> {
    let mut page = String::from(
        "# SQL reference\n\nMade by `arrow-quant functions --markdown` from the functions' own documentation.\n\n\
         Arguments have names, and those in brackets are optional. `quantize(weights, 4, symmetric => true)` skips some; an \
         optional argument that is NULL is as if left out. A session of the `datafusion` wheel cannot skip by name: write \
         NULL there.\n",
    );
    let mut section = "";
    for entry in entries()? {
        if entry.section != section {
            section = entry.section;
            let _ = write!(page, "\n## {section}\n");
        }
        let _ = write!(page, "\n### `{}`\n\n{}\n\n", entry.syntax, entry.description);
        for (name, meaning) in &entry.arguments {
            let _ = writeln!(page, "- `{name}`: {meaning}");
        }
        if !entry.example.is_empty() {
            let _ = write!(page, "\n```sql\n{};\n```\n", entry.example);
        }
    }
    page.push_str(STATEMENTS);
    Ok(page)
}

/// The tables and statements, which are no functions.
const STATEMENTS: &str = "
## Tables

Rows come in no promised order: use `ORDER BY name, channel`.

A path in quotes is the weights table of the model there: `FROM 'model.safetensors'`. A Parquet file is a table as well.

### The weights table

One row per output channel; `(name, channel)` is its key. Tensors of rank 0 and 1 are one row.

| column | type | meaning |
|---|---|---|
| `name` | string | the name of the tensor |
| `layer` | Int32 | the first number in the name; NULL without one |
| `module` | string | the name without its prefix up to the layer and without `.weight` |
| `dtype` | string | the type of the stored elements, such as `BF16` |
| `shape` | list of Int64 | the shape of the tensor |
| `channel` | Int64 | the number of the row in its tensor, from 0 |
| `weights` | list of Float32 | the row, decoded; NULL if the tensor does not hold floats |
| `data` | binary | the row as stored, byte for byte |

### The tensors table

One row per tensor, without the weights.

| column | type | meaning |
|---|---|---|
| `name`, `layer`, `module`, `dtype`, `shape` | | as in the weights table |
| `parameters` | Int64 | the number of elements |
| `bytes` | Int64 | the bytes that they take |
| `rows` | Int64 | the number of rows in the weights table |
| `row_length` | Int64 | the elements of a row |
| `file` | string | the name of the file that holds the tensor |

## Statements

### `CREATE EXTERNAL TABLE name STORED AS SAFETENSORS LOCATION 'path'`

Makes a model a weights table. `path` is what the table functions take.

### `COPY (SELECT ...) TO 'file.safetensors' STORED AS SAFETENSORS`

Writes rows to one safetensors file, the same bytes whatever the order in which they come. The query gives `name` and
`channel`, `weights` or `data` or both, and where they are known `dtype` and `shape`. Weights that are not NULL are stored as
`dtype` says if that is F16, BF16, F32 or F64, else as F32; where they are NULL, `data` is stored as it is. Without `shape`
a tensor is a matrix of the rows that came. Rows wait in a file beside the output until the last has come.

```sql
COPY (SELECT name, dtype, shape, channel, dequantize(quantize(weights, 4)) AS weights FROM layers WHERE module LIKE 'mlp%')
TO 'mlp.safetensors' STORED AS SAFETENSORS;
```
";
