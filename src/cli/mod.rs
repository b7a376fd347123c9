//! The `arrow-quant` program: arguments in, results on stdout, everything else on stderr. No numerics.

mod activations;
mod compare;
mod error;
mod format;
mod functions;
mod gguf;
mod goals;
mod inspect;
mod options;
mod progress;
mod prompt;
mod quantize;
mod recipes;
mod sql;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::CliError;

/// Quantize the weights of neural networks to 2, 3, 4 and 8 bits.
#[derive(Debug, Parser)]
#[command(name = "arrow-quant", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Quantize a model into a folder, with a report of what it cost
    Quantize(Box<quantize::Arguments>),
    /// Run a query, or open a prompt
    Sql(sql::Arguments),
    /// List the tensors of a model
    Inspect(inspect::Arguments),
    /// Measure how far two models lie apart
    Compare(compare::Arguments),
    /// List the recipes, or print one
    Recipes(recipes::Arguments),
    /// List the named settings of `quantize --profile`
    Profiles,
    /// List the SQL functions, or explain one
    Functions(functions::Arguments),
}

/// Runs the program on the arguments of the process: 0 done, 1 failed, 2 wrong usage.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return error::report_usage(&error),
    };
    let result = match cli.command {
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Sql(arguments) => sql::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Recipes(arguments) => recipes::run(&arguments),
        Command::Profiles => activations::profiles(),
        Command::Functions(arguments) => functions::run(&arguments),
    };
    match result {
        // The reader of a pipe has seen enough.
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        Err(error) => error.report(),
        Ok(()) => ExitCode::SUCCESS,
    }
}
