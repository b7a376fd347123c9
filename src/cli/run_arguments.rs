//! The options of `quantize` and `run` that change no byte of the result, and what is printed of a run.

use std::{
    io::{Write, stdout},
    path::Path,
};

use bytesize::ByteSize;

use super::{
    CliError, activations,
    inspect::{copied_parts, left_behind, passed_over},
    interrupt::until_interrupted,
    options,
    progress::Reporter,
    report, table,
};
use crate::{
    output::existing::ExistingFlags,
    run::{
        RunError, RunSettings,
        pipeline::PlannedPipeline,
        plan::Plan,
        report::{FAR_BELOW_DB, FarBelow, LITTLE_LEFT_DB, little_left, summary::Summary},
    },
    storage::escape::escaped,
};

#[derive(Debug, clap::Args)]
#[group(id = "running")]
#[command(next_help_heading = "Running")]
pub struct Arguments {
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
    /// Resident memory to stay below, such as 800MB: as many threads as fit by estimate take parts
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<ByteSize>,
    /// Read the whole model to memory first
    #[arg(long)]
    batch: bool,
    #[command(flatten)]
    existing: ExistingArguments,
    /// Skip verification of the written files
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    pub(super) printed: Printed,
}

/// The choice for an output that is there already.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Running")]
struct ExistingArguments {
    /// Resume an interrupted run; one that was begun with --overwrite replaces the output folder
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the output folder, or the rest of an interrupted run, unless it holds files that no run wrote
    #[arg(long)]
    overwrite: bool,
    /// With --overwrite, replace the output folder with all that is in it
    #[arg(long, requires = "overwrite")]
    force: bool,
}

/// The parts of a run that are printed besides the summary, or in its place.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Running")]
pub struct Printed {
    /// Print the report, one line per tensor
    #[arg(long)]
    report: bool,
    /// Print the summary as JSON
    #[arg(long, conflicts_with = "report")]
    pub(super) json: bool,
}

impl From<RunError> for CliError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Io(error) => error.into(),
            RunError::Query(error) => error.into(),
            other @ (RunError::MemoryLimit { .. } | RunError::Cancelled(_) | RunError::Interrupted) => {
                Self::Failed(other.to_string())
            }
        }
    }
}

impl Arguments {
    /// Returns the settings of the run.
    ///
    /// # Errors
    /// Returns an error if flags do not go together.
    pub(super) fn settings(&self) -> Result<RunSettings, CliError> {
        let ExistingArguments { resume, overwrite, force } = self.existing;
        let existing = ExistingFlags { resume, overwrite, force }.existing();
        Ok(RunSettings {
            threads: self.threads.unwrap_or_else(options::cores),
            memory_limit: self.memory_limit.map(|limit| limit.as_u64()),
            batch: self.batch,
            existing: existing.map_err(|problem| CliError::Usage(problem.to_owned()))?,
            check: !self.no_check,
        })
    }

    /// Runs a plan, and prints what came of it.
    pub(super) fn run(&self, planned: &Plan, output: &Path) -> Result<(), CliError> {
        let settings = self.settings()?;
        let reporter = Reporter::new(self.printed.json);
        let summary = until_interrupted(|cancel| Ok(planned.run(output, &settings, &reporter, cancel)?))?;
        let mut out = stdout().lock();
        if self.printed.report {
            writeln!(out, "{}", report::text(output)?)?;
        }
        if self.printed.json {
            return Ok(writeln!(out, "{}", summary.figures(planned.by_gptq(), output))?);
        }
        if planned.spec().hessians.is_some() {
            writeln!(out, "{} tensors quantized by GPTQ", planned.by_gptq())?;
        }
        write!(out, "{}{}", passed_over(planned.model()), left_behind(planned.left_behind()))?;
        writeln!(out, "{}", escaped(&summary.share))?;
        if let Some(line) = planned.refused_by_engines() {
            writeln!(out, "{}", escaped(&line))?;
        }
        Ok(writeln!(out, "{}", text(&summary, &planned.without_activations(), output))?)
    }

    /// Runs the parts of a pipeline, and prints what came of them.
    pub(super) fn run_pipeline(&self, pipeline: &PlannedPipeline, output: &Path) -> Result<(), CliError> {
        let settings = self.settings()?;
        let reporter = Reporter::new(self.printed.json);
        let summary = until_interrupted(|cancel| Ok(pipeline.run(output, &settings, &reporter, cancel)?))?;
        let mut out = stdout().lock();
        if self.printed.json {
            return Ok(writeln!(out, "{}", summary.figures(0, output))?);
        }
        for (name, part) in pipeline.parts() {
            if self.printed.report {
                writeln!(out, "{}:\n{}", escaped(name), report::text(&output.join(name))?)?;
            }
            if let Some(line) = part.refused_by_engines() {
                writeln!(out, "{}: {}", escaped(name), escaped(&line))?;
            }
        }
        let names: Vec<&str> = pipeline.parts().iter().map(|(name, _)| name.as_str()).collect();
        writeln!(out, "quantized: {}\n{}", escaped(&names.join(", ")), copied_parts(pipeline))?;
        Ok(writeln!(out, "{}\n{}", escaped(&summary.share), text(&summary, &[], output))?)
    }
}

fn text(summary: &Summary, without: &[&str], output: &Path) -> String {
    let activations = activations::text(&summary.prepared, without);
    let totals = &summary.totals;
    let quality = match (totals.bits_per_weight, &totals.errors) {
        (Some(bits), Some(errors)) => {
            format!(" at {bits:.3} bits, {:.2} dB SQNR, cosine {:.6}", errors.sqnr(), errors.cosine_similarity())
        }
        _ => String::new(),
    };
    format!(
        "{} of {} tensors quantized: {} weights{quality}\n\
         {} to {} in {:.1} s, {} weights/s, peak memory {}\n{activations}{}{}{}{}",
        totals.quantized_tensors,
        totals.tensors,
        table::quantity(totals.weights),
        table::bytes(totals.bytes_in),
        table::bytes(summary.file_bytes),
        summary.seconds,
        table::quantity((totals.weights as f64 / summary.seconds) as u64),
        summary.peak_memory.map_or_else(|| "unknown".into(), table::bytes),
        lost(&format!("below {LITTLE_LEFT_DB} dB SQNR"), &little_left(&summary.report)),
        far_below(summary),
        escaped(&output.display()),
        if summary.checked { ": verified" } else { ": not verified" },
    )
}

/// Returns a line on the tensors that lost far more than others of their width, except those of which little is left.
fn far_below(summary: &Summary) -> String {
    let said = |one: &&FarBelow| one.db >= LITTLE_LEFT_DB;
    let tensors: Vec<_> = summary.far_below.iter().filter(said).map(|one| (one.name.as_str(), one.db)).collect();
    lost(&format!("more than {FAR_BELOW_DB} dB below others of their width"), &tensors)
}

/// Returns one line on tensors that lost much, the worst by name; empty where there are none.
fn lost(what: &str, tensors: &[(&str, f64)]) -> String {
    const NAMED: usize = 3;
    if tensors.is_empty() {
        return String::new();
    }
    let named = tensors.iter().take(NAMED).map(|(name, db)| format!("{} {db:.2} dB", escaped(name)));
    let named = named.collect::<Vec<_>>().join(", ");
    let more = tensors.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{what}: {named}{more}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_tensors_are_named_and_the_others_counted() {
        assert_eq!(lost("a", &[]), "");
        assert_eq!(lost("below 3 dB SQNR", &[("a", -0.5), ("b", 1.0)]), "below 3 dB SQNR: a -0.50 dB, b 1.00 dB\n");
        let many = [("a", 0.0), ("b\u{1b}", 0.0), ("c", 1.0), ("d", 2.0), ("e", 2.5)];
        let line = lost("below", &many);
        assert!(line.ends_with("c 1.00 dB and 2 more\n") && !line.contains('\u{1b}'), "{line}");
    }
}
