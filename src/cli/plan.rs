//! `arrow-quant plan`, `run` and `explain`: a plan that is saved before it runs.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use super::{
    CliError, interrupt::until_interrupted, options, progress::Reporter, quantize::plan_table, run_arguments,
    spec_arguments,
};
use crate::{
    run::{RunSettings, plan::Plan},
    storage::escape::escaped,
};

#[derive(Debug, clap::Args)]
pub struct PlanArguments {
    /// The model, as for `quantize`
    model: PathBuf,
    /// The folder to make: plan.json, plan.sql and the tables that it joins
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    spec: spec_arguments::Arguments,
    /// Threads that measure weights [default: all cores]
    #[arg(long, value_parser = options::threads, help_heading = "Running")]
    threads: Option<usize>,
    /// Print the physical plan as well
    #[arg(long, help_heading = "Running")]
    explain: bool,
}

#[derive(Debug, clap::Args)]
pub struct RunPlanArguments {
    /// The folder that `plan` made; its choices.parquet and plan.sql may have been edited
    plan: PathBuf,
    /// The folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    running: run_arguments::Arguments,
}

#[derive(Debug, clap::Args)]
pub struct ExplainArguments {
    /// The folder that `plan` made
    plan: PathBuf,
}

/// Plans, measures and saves.
pub fn save(arguments: &PlanArguments) -> Result<(), CliError> {
    let settings = RunSettings { threads: arguments.threads.unwrap_or_else(options::cores), ..RunSettings::default() };
    let reporter = Reporter::new(false);
    let spec = arguments.spec.spec()?;
    let planned = until_interrupted(|cancel| {
        let planned = Plan::new(spec, &arguments.model, None, &settings, &reporter, cancel)?;
        Ok(planned.measured(&settings, &reporter, cancel)?)
    })?;
    planned.save(&arguments.model, &arguments.output)?;
    let mut out = stdout().lock();
    writeln!(out, "{}\n{}", plan_table(&planned), escaped(&arguments.output.display()))?;
    if arguments.explain {
        write!(out, "{}", planned.explain()?)?;
    }
    Ok(())
}

/// Runs a saved plan.
pub fn run(arguments: &RunPlanArguments) -> Result<(), CliError> {
    let planned = Plan::open(&arguments.plan, Some(&arguments.output), &arguments.running.settings()?)?;
    arguments.running.run(&planned, &arguments.output)
}

/// Prints the physical plan of a saved plan.
pub fn explain(arguments: &ExplainArguments) -> Result<(), CliError> {
    let planned = Plan::open(&arguments.plan, None, &RunSettings::default())?;
    Ok(write!(stdout().lock(), "{}", planned.explain()?)?)
}
