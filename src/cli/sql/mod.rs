//! `arrow-quant sql`: one query, a script on standard input, or a prompt.

mod console;
mod output;
mod prompt;

use std::{
    fs,
    io::{IsTerminal, Read, stdin},
    path::PathBuf,
    str::FromStr,
};

use bytesize::ByteSize;

use super::{CliError, options, workers::Workers};
use crate::{sql::Session, storage::error::IoError};
use console::Console;
use output::Format;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The query; without one, a prompt on a terminal, else the statements on standard input
    #[arg(conflicts_with = "file")]
    query: Option<String>,
    /// Run the statements of a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Form of the results
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Make the model at PATH a table called NAME; may be repeated
    #[arg(long = "table", value_name = "NAME=PATH")]
    tables: Vec<NamedPath>,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
    /// Memory for the rows that queries hold, such as 2GB: sorted, grouped, joined or kept as a table. What does not fit is
    /// written to temporary files, or is an error [default: half of the memory]
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// Rows to print of each result [default: 40 of a table, all in other forms]
    #[arg(long, value_name = "N")]
    max_rows: Option<usize>,
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
    let threads = arguments.threads.unwrap_or_else(options::cores);
    let session = match arguments.memory_limit {
        Some(limit) => Session::with_memory_limit(threads, limit.as_u64())?,
        None => Session::new(threads)?,
    };
    for named in &arguments.tables {
        session.register_model(&named.name, &named.path)?;
    }
    let format = arguments.format;
    let max_rows = arguments.max_rows.unwrap_or(if format == Format::Table { 40 } else { usize::MAX });
    let console = Console { workers, session, format, max_rows };
    match (&arguments.query, &arguments.file) {
        (Some(query), _) => console.run_script(query),
        (None, Some(file)) => console.run_script(&fs::read_to_string(file).map_err(IoError::system("read", file))?),
        (None, None) if stdin().is_terminal() => prompt::run(&console),
        (None, None) => {
            let mut script = String::new();
            stdin().lock().read_to_string(&mut script)?;
            console.run_script(&script)
        }
    }
}
