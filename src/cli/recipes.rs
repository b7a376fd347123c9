//! `arrow-quant recipes`: the queries that the other commands run.

use std::io::{Write, stdout};

use super::CliError;
use crate::sql::recipes::ALL;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print this recipe
    name: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mut out = stdout().lock();
    let Some(name) = &arguments.name else {
        for recipe in ALL {
            writeln!(out, "{:<17} {}", recipe.name, recipe.summary())?;
        }
        return Ok(());
    };
    let recipe = ALL.iter().find(|recipe| recipe.name == name).ok_or_else(|| {
        let names: Vec<_> = ALL.iter().map(|recipe| recipe.name).collect();
        CliError::Usage(format!("there is no recipe '{name}'; there are {}", names.join(", ")))
    })?;
    Ok(write!(out, "{}", recipe.sql)?)
}
