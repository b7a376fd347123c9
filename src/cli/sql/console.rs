//! A session, and its results as text.

use std::{
    collections::VecDeque,
    io::{Write, stdout},
};

use arrow_array::RecordBatch;
use datafusion::{
    common::DataFusionError,
    execution::SendableRecordBatchStream,
    sql::parser::{DFParserBuilder, Statement},
};
use futures::StreamExt;

use super::output::{Encoder, Format};
use crate::{
    cli::{CliError, table, workers::Workers},
    sql::Session,
};

/// A session and how its results are shown.
pub struct Console {
    pub(super) workers: Workers,
    pub(super) session: Session,
    pub(super) format: Format,
    pub(super) max_rows: usize,
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
        self.workers.run(print(self.session.clone(), statement, self.format, self.max_rows))
    }
}

/// Runs a statement and prints the first rows of its result.
async fn print(session: Session, statement: Statement, format: Format, max_rows: usize) -> Result<(), CliError> {
    let plan = session.plan_of(statement).await?;
    let mut stream = session.execute(plan).await?.execute_stream().await?;
    if stream.schema().fields().is_empty() {
        // A statement that gives no table: CREATE, DROP, SET.
        while let Some(batch) = stream.next().await {
            batch?;
        }
        return Ok(());
    }
    if let Some(encoder) = Encoder::new(format) {
        return print_rows(stream, encoder, max_rows).await;
    }
    let (batches, more) = first_rows(stream, max_rows).await?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let rows_are = if rows == 1 { "row" } else { "rows" };
    let count =
        if more { format!("the first {rows} rows; --max-rows shows more\n") } else { format!("{rows} {rows_are}\n") };
    let table = table::pretty(&batches).map_err(DataFusionError::from)?;
    Ok(stdout().lock().write_all(format!("{table}\n{count}").as_bytes())?)
}

/// Prints the first `limit` rows as they come.
async fn print_rows(mut stream: SendableRecordBatchStream, mut encoder: Encoder, limit: usize) -> Result<(), CliError> {
    let write = |bytes: Vec<u8>| stdout().lock().write_all(&bytes);
    write(encoder.encode(&RecordBatch::new_empty(stream.schema())).map_err(DataFusionError::from)?)?;
    let mut left = limit;
    while left > 0
        && let Some(batch) = stream.next().await
    {
        let batch = batch?;
        let batch = batch.slice(0, batch.num_rows().min(left));
        left -= batch.num_rows();
        write(encoder.encode(&batch).map_err(DataFusionError::from)?)?;
    }
    Ok(write(encoder.finish().map_err(DataFusionError::from)?)?)
}

/// Returns the first `limit` rows as text, and whether there are more. The rest of the query is not run.
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

/// Returns the statements of a script.
fn statements(script: &str) -> Result<VecDeque<Statement>, CliError> {
    Ok(DFParserBuilder::new(script).build()?.parse_statements()?)
}
