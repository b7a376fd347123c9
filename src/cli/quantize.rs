//! `arrow-quant quantize`: the main job.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytesize::ByteSize;
use datafusion::{common::DataFusionError, prelude::ParquetReadOptions};

use super::{CliError, activations, options, progress::Reporter, spec_arguments, table};
use crate::{
    output::existing::Existing,
    run::{
        Cancel, JobError, RunSettings,
        local::Summary,
        plan::{PlannedJob, recipe},
        progress::Progress,
    },
    sql::{Session, recipes},
    storage::{escape::escaped, folder::manifest::REPORT},
    types::QuantizeOptions,
};

/// The heading in `--help` of the options that change no byte of the result.
const RUNNING: &str = "Running";

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    /// A safetensors file, a folder of shards, a diffusers folder, or one that compressed-tensors packed or quantize made
    #[arg(required_unless_present = "print_sql")]
    pub(super) model: Option<PathBuf>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["dry_run", "print_sql"])]
    output: Option<PathBuf>,
    #[command(flatten)]
    spec: spec_arguments::Arguments,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads, help_heading = RUNNING)]
    threads: Option<usize>,
    /// Resident memory to stay below, such as 800MB: as many threads as fit by estimate take parts
    #[arg(long, value_name = "SIZE", help_heading = RUNNING)]
    memory_limit: Option<ByteSize>,
    /// Read the whole model to memory first
    #[arg(long, help_heading = RUNNING)]
    batch: bool,
    /// Resume an interrupted run; one that was begun with --overwrite replaces the output folder
    #[arg(long, conflicts_with = "overwrite", help_heading = RUNNING)]
    resume: bool,
    /// Replace the output folder, or the rest of an interrupted run, unless it holds files that no run wrote
    #[arg(long, help_heading = RUNNING)]
    overwrite: bool,
    /// With --overwrite, replace the output folder with all that is in it
    #[arg(long, requires = "overwrite", help_heading = RUNNING)]
    force: bool,
    /// Print the plan for each tensor; write nothing (weights are read only where bits are chosen by measurement)
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "report"], help_heading = RUNNING)]
    pub(super) dry_run: bool,
    /// Skip verification of the written files
    #[arg(long, help_heading = RUNNING)]
    no_check: bool,
    /// Print the report, one line per tensor
    #[arg(long, help_heading = RUNNING)]
    report: bool,
    /// Print the query that would run, and stop
    #[arg(long, help_heading = RUNNING)]
    print_sql: bool,
    /// Print the summary as JSON
    #[arg(long, conflicts_with_all = ["report", "dry_run"], help_heading = RUNNING)]
    json: bool,
}

impl From<JobError> for CliError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Io(error) => error.into(),
            JobError::Query(error) => error.into(),
            other @ (JobError::MemoryLimit { .. } | JobError::Cancelled(_) | JobError::Interrupted) => {
                Self::Failed(other.to_string())
            }
        }
    }
}

impl Arguments {
    /// Returns the settings of the run.
    pub(super) fn settings(&self) -> RunSettings {
        RunSettings {
            threads: self.threads.unwrap_or_else(options::cores),
            memory_limit: self.memory_limit.map(|limit| limit.as_u64()),
            batch: self.batch,
            existing: match (self.resume, self.overwrite, self.force) {
                (true, ..) => Existing::Resume,
                (_, true, false) => Existing::Overwrite,
                (_, true, true) => Existing::Force,
                _ => Existing::Refuse,
            },
            check: !self.no_check,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mut out = stdout().lock();
    let spec = arguments.spec.spec()?;
    let (Some(model), false) = (&arguments.model, arguments.print_sql) else {
        if spec.has_bit_budget() {
            writeln!(out, "{};", recipes::MIXED_PRECISION.sql.trim_end())?;
        }
        return Ok(write!(out, "{}", recipe(&spec).sql)?);
    };
    let settings = arguments.settings();
    let reporter = Reporter::new(arguments.json);
    let planned = until_interrupted(|cancel| {
        let output = if arguments.dry_run { None } else { Some(output(arguments.output.as_deref())?) };
        Ok(PlannedJob::new(spec, model, output, &settings, &reporter, cancel)?)
    })?;
    if arguments.dry_run {
        return Ok(writeln!(out, "{}", plan_table(&planned))?);
    }
    let output = output(arguments.output.as_deref())?;
    let summary = until_interrupted(|cancel| Ok(planned.run(output, &settings, &reporter, cancel)?))?;
    if arguments.report {
        writeln!(out, "{}", report_table(output)?)?;
    }
    if arguments.json {
        writeln!(out, "{}", summary.figures(planned.by_gptq(), output))?;
    } else {
        if planned.spec().hessians.is_some() {
            writeln!(out, "{} tensors quantized by GPTQ", planned.by_gptq())?;
        }
        writeln!(out, "{}", text(&summary, &planned.without_activations(), output))?;
    }
    Ok(())
}

/// Runs the command without a word, under the caller's progress and cancellation.
pub(super) fn run_watched(arguments: &Arguments, progress: &dyn Progress, cancel: &Cancel) -> Result<(), CliError> {
    let (settings, output) = (arguments.settings(), output(arguments.output.as_deref())?);
    let model = arguments.model.as_deref().ok_or_else(|| CliError::Usage("the model is missing".into()))?;
    let planned = PlannedJob::new(arguments.spec.spec()?, model, Some(output), &settings, progress, cancel)?;
    planned.run(output, &settings, progress, cancel)?;
    Ok(())
}

/// Returns the output folder, which every run but a dry one needs.
fn output(output: Option<&Path>) -> Result<&Path, CliError> {
    output.ok_or_else(|| CliError::Usage("`output` DIR is missing".into()))
}

/// Does the work on this thread while one of the runtime listens for Ctrl-C.
fn until_interrupted<T>(work: impl FnOnce(&Cancel) -> Result<T, CliError>) -> Result<T, CliError> {
    let runtime = options::runtime(Some(1))?;
    let cancel = Arc::new(Cancel::new(false));
    let seen = Arc::clone(&cancel);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            seen.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let result = work(&cancel);
    runtime.shutdown_timeout(Duration::ZERO);
    result
}

/// `report.parquet` through `sql/report.sql`.
fn report_table(output: &Path) -> Result<String, CliError> {
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

/// Returns how large the groups are, in words.
fn groups(options: QuantizeOptions) -> String {
    if options.is_per_row() { "one group a row".to_owned() } else { format!("groups of {}", options.group_size()) }
}

/// What would happen to each tensor, and the sums.
fn plan_table(planned: &PlannedJob) -> String {
    use std::fmt::Write;

    let tensors = planned.model().tensors();
    let names: Vec<_> = tensors.iter().map(|tensor| escaped(&tensor.name)).collect();
    let width = table::width("tensor", names.iter());
    let mut text =
        format!("{:<width$}  {:<18} {:<7} {:>10} {:>10}  what\n", "tensor", "shape", "dtype", "bytes in", "bytes out");
    let (mut total_in, mut total_out) = (0, 0);
    let rows = tensors.iter().zip(planned.choices()).zip(planned.bytes_out()).zip(planned.chosen_widths());
    for ((((tensor, choice), bytes_out), chosen), name) in rows.zip(&names) {
        let what = match &choice.options {
            Some(_) if choice.block.is_some() => choice.note.clone(),
            Some(options) => format!(
                "{} bits, {}, {}{}{}{}",
                options.bits,
                groups(*options),
                options.method,
                if options.symmetric { ", symmetric" } else { "" },
                chosen.map_or_else(String::new, |width| format!(", {:.2} dB", width.sqnr())),
                if choice.note.is_empty() { String::new() } else { format!(" ({})", choice.note) },
            ),
            None => format!("copied unchanged: {}", choice.note),
        };
        let bytes_in = tensor.bytes() as u64;
        total_in += bytes_in;
        total_out += bytes_out;
        let _ = writeln!(
            text,
            "{name:<width$}  {:<18} {:<7} {:>10} {:>10}  {}",
            format!("{:?}", tensor.shape),
            tensor.dtype_name(),
            table::bytes(bytes_in),
            table::bytes(bytes_out),
            escaped(&what),
        );
    }
    let quantized = planned.choices().iter().filter(|choice| choice.options.is_some()).count();
    let _ = write!(
        text,
        "{quantized} of {} tensors would be quantized: {} to {}",
        tensors.len(),
        table::bytes(total_in),
        table::bytes(total_out)
    );
    text
}

fn text(summary: &Summary, without: &[&str], output: &Path) -> String {
    let activations = activations::text(&summary.prepared, without);
    let totals = &summary.totals;
    let quality = match (totals.bits_per_weight, &totals.errors) {
        (Some(bits), Some(errors)) => {
            let stats = errors.stats();
            format!(" at {bits:.3} bits, {:.2} dB SQNR, cosine {:.6}", stats.sqnr(), stats.cosine_similarity())
        }
        _ => String::new(),
    };
    format!(
        "{} of {} tensors quantized: {} weights{quality}\n\
         {} to {} in {:.1} s, {} weights/s, peak memory {}\n{activations}{}{}",
        totals.quantized_tensors,
        totals.tensors,
        table::quantity(totals.weights),
        table::bytes(totals.bytes_in),
        table::bytes(summary.file_bytes),
        summary.seconds,
        table::quantity((totals.weights as f64 / summary.seconds) as u64),
        summary.peak_memory.map_or_else(|| "unknown".into(), table::bytes),
        escaped(&output.display()),
        if summary.checked { ": verified" } else { ": not verified" },
    )
}
