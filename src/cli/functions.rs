//! `arrow-quant functions`: the SQL functions, from the list that registers them.

use std::io::{Write, stdout};

use super::CliError;
use crate::sql::reference;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Explain this function
    name: Option<String>,
    /// Print the whole reference as Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    if arguments.markdown {
        return Ok(write!(stdout().lock(), "{}", reference::markdown()?)?);
    }
    print(arguments.name.as_deref())
}

/// Prints how a function is called, or the list of all.
pub fn print(name: Option<&str>) -> Result<(), CliError> {
    let mut out = stdout().lock();
    let entries = reference::entries()?;
    let Some(name) = name else {
        let width = entries.iter().map(|entry| entry.syntax.len()).max().unwrap_or(0);
        for entry in &entries {
            writeln!(out, "{:<width$}  {}", entry.syntax, entry.summary())?;
        }
        return Ok(());
    };
    let entry = entries
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| CliError::Usage(format!("there is no function '{name}'; 'arrow-quant functions' lists them")))?;
    Ok(write!(out, "{}", entry.text())?)
}
