//! The `arrow-quant` program: arguments in, results on stdout, everything else on stderr. No numerics.

#![warn(clippy::print_stderr, reason = "stderr may be full or closed: `error::tell`")]

mod activations;
mod compare;
mod error;
mod functions;
mod inspect;
mod interrupt;
mod options;
mod plan;
mod progress;
mod quantize;
mod recipes;
mod report;
mod run_arguments;
mod spec_arguments;
mod sql;
mod table;
mod workers;

use std::{
    ffi::OsString,
    io::{Write, stdout},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

pub use error::CliError;

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
    /// Save what `quantize` would run: a query and its tables, to read and to change
    Plan(Box<plan::PlanArguments>),
    /// Run a saved plan into a folder
    Run(plan::RunPlanArguments),
    /// Print the physical plan of a saved plan
    Explain(plan::ExplainArguments),
    /// Run a query, or open a prompt
    Sql(sql::Arguments),
    /// List the tensors of a model
    Inspect(inspect::Arguments),
    /// Show what a run did to each tensor, as a table or a page of HTML
    Report(report::Arguments),
    /// Compare two models tensor by tensor
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
    run(std::env::args_os()).into()
}

/// Runs the program on arguments of which the first is its own name; gives the exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return error::report_usage(&error),
    };
    let result = match cli.command {
        Command::Quantize(arguments) => quantize::run(&arguments),
        Command::Plan(arguments) => plan::save(&arguments),
        Command::Run(arguments) => plan::run(&arguments),
        Command::Explain(arguments) => plan::explain(&arguments),
        Command::Sql(arguments) => sql::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Recipes(arguments) => recipes::run(&arguments),
        Command::Profiles => activations::profiles(),
        Command::Functions(arguments) => functions::run(&arguments),
    };
    // What is printed last may still wait to be written.
    error::exit_code(result.and_then(|()| Ok(stdout().flush()?)))
}

/// Runs `arrow-quant quantize` with the options given, and prints nothing: for callers that watch a run and stop it.
///
/// # Errors
/// Returns an error if the options are wrong or the run fails.
pub fn quantize(
    options: &[OsString],
    progress: &dyn crate::run::progress::Progress,
    cancel: &crate::run::Cancel,
) -> Result<(), CliError> {
    let program = ["arrow-quant", "quantize"].map(OsString::from);
    let cli =
        Cli::try_parse_from(program.iter().chain(options)).map_err(|error| CliError::Usage(error::usage(&error)))?;
    match cli.command {
        Command::Quantize(arguments) => quantize::run_watched(&arguments, progress, cancel),
        _ => Err(CliError::Usage("quantize is the only command that can be watched".into())),
    }
}
