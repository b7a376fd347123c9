//! `arrow-quant sql`: one query, a script on standard input, or a prompt.

use std::{
    collections::VecDeque,
    io::{IsTerminal, Read, Write, stdin, stdout},
    path::PathBuf,
    str::FromStr,
};

use arrow_array::RecordBatch;
use datafusion::{
    common::DataFusionError,
    execution::SendableRecordBatchStream,
    sql::parser::{DFParserBuilder, Statement},
};
use futures::StreamExt;

use super::{CliError, options, prompt, table, workers::Workers};
use crate::sql::Session;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The query; without one, a prompt on a terminal, else the statements on standard input
    query: Option<String>,
    /// Make the model at PATH a table called NAME; may be repeated
    #[arg(long = "table", value_name = "NAME=PATH")]
    tables: Vec<NamedPath>,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
    /// Rows to show of each result
    #[arg(long, value_name = "N", default_value_t = 40)]
    max_rows: usize,
}

/// `NAME=PATH` on the command line.
#[derive(Debug, Clone)]
struct NamedPath {
    name: String,
    path: PathBuf,
}

impl FromStr for NamedPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, path)) if !name.is_empty() && !path.is_empty() => {
                Ok(Self { name: name.into(), path: path.into() })
            }
            _ => Err("must be NAME=PATH, such as layers=model.safetensors".into()),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let workers = Workers::new(arguments.threads)?;
    let session = Session::new(arguments.threads.unwrap_or_else(options::cores))?;
    for named in &arguments.tables {
        session.register_model(&named.name, &named.path)?;
    }
    let console = Console { workers, session, max_rows: arguments.max_rows };
    match &arguments.query {
        Some(query) => console.run_script(query),
        None if stdin().is_terminal() => prompt::run(&console),
        None => {
            let mut script = String::new();
            stdin().lock().read_to_string(&mut script)?;
            console.run_script(&script)
        }
    }
}

/// A session and how its results are shown.
pub struct Console {
    workers: Workers,
    session: Session,
    max_rows: usize,
}

impl Console {
    /// Runs statements that semicolons part, and stops at the first that fails.
    pub fn run_script(&self, script: &str) -> Result<(), CliError> {
        for statement in statements(script)? {
            self.run_statement(statement)?;
        }
        Ok(())
    }

    fn run_statement(&self, statement: Statement) -> Result<(), CliError> {
        let shown = self.workers.run(fetch(self.session.clone(), statement, self.max_rows))?;
        let mut out = stdout().lock();
        Ok(out.write_all(shown.as_bytes())?)
    }
}

/// Runs a statement and gives the first rows of its result as text.
async fn fetch(session: Session, statement: Statement, max_rows: usize) -> Result<String, CliError> {
    let context = session.context();
    let plan = context.state().statement_to_plan(statement).await?;
    let mut stream = context.execute_logical_plan(plan).await?.execute_stream().await?;
    if stream.schema().fields().is_empty() {
        // A statement that gives no table: CREATE, DROP, SET.
        while let Some(batch) = stream.next().await {
            batch?;
        }
        return Ok(String::new());
    }
    let (batches, more) = first_rows(stream, max_rows).await?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let rows_are = if rows == 1 { "row" } else { "rows" };
    let count =
        if more { format!("the first {rows} rows; --max-rows shows more\n") } else { format!("{rows} {rows_are}\n") };
    let table = table::pretty(&batches).map_err(DataFusionError::from)?;
    Ok(format!("{table}\n{count}"))
}

/// The first `limit` rows as text, and whether there are more. The rest of the query is not run.
async fn first_rows(mut stream: SendableRecordBatchStream, limit: usize) -> Result<(Vec<RecordBatch>, bool), CliError> {
    let text = |batch: &RecordBatch| table::as_text(batch, "NULL").map_err(DataFusionError::from);
    let mut shown = vec![text(&RecordBatch::new_empty(stream.schema()))?];
    let mut left = limit;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        if batch.num_rows() > left {
            shown.push(text(&batch.slice(0, left))?);
            return Ok((shown, true));
        }
        left -= batch.num_rows();
        shown.push(text(&batch)?);
    }
    Ok((shown, false))
}

/// The statements of a script.
fn statements(script: &str) -> Result<VecDeque<Statement>, CliError> {
    Ok(DFParserBuilder::new(script).build()?.parse_statements()?)
}
