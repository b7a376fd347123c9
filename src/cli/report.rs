//! `arrow-quant report`: shows what a run did to each tensor.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
};

use datafusion::{common::DataFusionError, prelude::ParquetReadOptions};

use super::{CliError, options, table};
use crate::{
    run::page::report_page,
    sql::{Session, recipes},
    storage::{atomic_file::write_renamed, folder::manifest::REPORT},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Folder that quantize made
    output: PathBuf,
    /// Write a page of HTML instead: sizes, widths, SQNR by layer, the tensors that lost most
    #[arg(long, value_name = "FILE", value_parser = html_file)]
    html: Option<PathBuf>,
    /// The model that the folder was made from: the page then shows weights before and after
    #[arg(long, requires = "html")]
    model: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    if let Some(file) = &arguments.html {
        let page = report_page(&arguments.output, arguments.model.as_deref())?;
        return Ok(write_renamed(file, page.as_bytes())?);
    }
    Ok(writeln!(stdout().lock(), "{}", text(&arguments.output)?)?)
}

/// Accepts names of pages alone: a file of that name is replaced.
pub fn html_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    if file.extension().is_some_and(|extension| extension == "html") {
        Ok(file)
    } else {
        Err("the name must end in .html".to_owned())
    }
}

/// Returns `report.parquet` through `sql/report.sql`.
pub fn text(output: &Path) -> Result<String, CliError> {
    let runtime = options::runtime(Some(1))?;
    let session = Session::new(1)?;
    runtime.block_on(async {
        let file = output.join(REPORT);
        let file = file.to_str().ok_or_else(|| CliError::Failed(format!("{}: is not UTF-8", file.display())))?;
        session.context().register_parquet("report", file, ParquetReadOptions::default()).await?;
        let batches = session.sql(recipes::REPORT.sql).await?.collect().await?;
        let text = batches
            .iter()
            .map(|batch| table::as_text(batch, ""))
            .collect::<Result<Vec<_>, _>>()
            .and_then(|rows| table::pretty(&rows));
        Ok(text.map_err(DataFusionError::from)?)
    })
}
