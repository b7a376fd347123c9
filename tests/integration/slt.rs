//! The SQL tests: one `.slt` file per function, each on a session of its own.

use std::path::Path;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_quant::sql::Session;
use async_trait::async_trait;
use datafusion::common::DataFusionError;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

struct Database(Session);

#[async_trait]
impl AsyncDB for Database {
    type Error = DataFusionError;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, DataFusionError> {
        let batches = self.0.sql(sql).await?.collect().await?;
        let Some(first) = batches.first() else {
            return Ok(DBOutput::StatementComplete(0));
        };
        let types = vec![DefaultColumnType::Any; first.num_columns()];
        let options = FormatOptions::new().with_null("NULL");
        let mut rows = Vec::new();
        for batch in &batches {
            let columns = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &options))
                .collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {}
}

#[tokio::test]
async fn every_slt_file_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut failures = Vec::new();
    for file in &files {
        let mut runner = Runner::new(|| async { Ok(Database(Session::new(2)?)) });
        if let Err(error) = runner.run_file_async(file).await {
            failures.push(format!("{}: {error}", file.display()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_function_has_an_slt_file() {
    for entry in arrow_quant::sql::reference::entries().unwrap() {
        let file = format!("{}/tests/slt/{}.slt", env!("CARGO_MANIFEST_DIR"), entry.name);
        assert!(Path::new(&file).exists(), "{file} is missing");
    }
}
