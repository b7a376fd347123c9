//! `arrow-quant quantize`: the main job.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use datafusion::{common::DataFusionError, prelude::ParquetReadOptions};

use super::{CliError, activations, format, goals, options, progress::Reporter, table};
use crate::{
    io::{Equalization, Existing, Rules, escape::escaped, output::REPORT},
    sql::{Cancel, Destination, Job, JobError, PlannedJob, Progress, Session, Summary, recipes},
    types::{Bits, Method, QuantizeOptions},
};

#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    /// A safetensors file, a folder of shards, a diffusers folder, or one that compressed-tensors packed or quantize made
    #[arg(required_unless_present = "print_sql")]
    pub(super) model: Option<PathBuf>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["dry_run", "print_sql"])]
    output: Option<PathBuf>,
    /// Bits per code: 2, 3, 4 or 8 [default: 4, or the profile's]
    #[arg(long, short)]
    bits: Option<Bits>,
    /// Weights that share a scale and a zero point; 'channel': all of a row [default: 32, or the profile's]
    #[arg(long, short, value_name = "N", value_parser = format::group_size)]
    group_size: Option<i64>,
    /// How they are chosen: 'search' (least squared error) or 'minmax' [default: search up to 4 bits]
    #[arg(long)]
    method: Option<Method>,
    /// Without zero points
    #[arg(long)]
    symmetric: bool,
    /// Quantize the float tensors of rank 2 and more whose name matches, instead of the default choice; may be repeated
    #[arg(long, value_name = "REGEX")]
    include: Vec<String>,
    /// Leave the tensors whose name matches as they are; may be repeated
    #[arg(long, value_name = "REGEX")]
    exclude: Vec<String>,
    /// Bits for the tensors whose name matches, such as 'mlp=2'; the last match counts; may be repeated
    #[arg(long, value_name = "REGEX=BITS")]
    bits_for: Vec<String>,
    #[command(flatten)]
    goals: goals::Arguments,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
    /// Resident memory to stay below, such as 800MB: as many threads as fit by estimate take parts
    #[arg(long, value_name = "SIZE", value_parser = options::bytes)]
    memory_limit: Option<u64>,
    /// Read the whole model to memory first
    #[arg(long)]
    batch: bool,
    /// Resume an interrupted run; one that was begun with --overwrite replaces the output folder
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the output folder, or the rest of an interrupted run, unless it holds files that no run wrote
    #[arg(long)]
    overwrite: bool,
    /// With --overwrite: replace the output folder with all that is in it
    #[arg(long, requires = "overwrite")]
    force: bool,
    /// Say what would happen to each tensor and write nothing; weights are read only where bits are chosen by measurement
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "report"])]
    pub(super) dry_run: bool,
    #[command(flatten)]
    format: format::Arguments,
    /// Do not read the output back to compare it with what was meant
    #[arg(long)]
    no_check: bool,
    /// Print the report, one line per tensor
    #[arg(long)]
    report: bool,
    /// Print the query that would run, and stop
    #[arg(long)]
    print_sql: bool,
    /// Print the summary as JSON
    #[arg(long, conflicts_with_all = ["report", "dry_run"])]
    json: bool,
    #[command(flatten)]
    activations: activations::Arguments,
    /// Hessians that calibration wrote (Parquet): quantize the tensors that it names by GPTQ, for the least error of the
    /// layers' outputs. Not with --equalize
    #[arg(long, value_name = "FILE", conflicts_with_all = ["symmetric", "min_sqnr"])]
    hessians: Option<PathBuf>,
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
    fn threads(&self) -> usize {
        self.threads.unwrap_or_else(options::cores)
    }

    /// Refuses what the format does not do, and an equalization that cannot be.
    fn check(&self) -> Result<(), CliError> {
        let groups = [
            ("--group-size", self.group_size.is_some()),
            ("--method", self.method.is_some()),
            ("--symmetric", self.symmetric),
        ];
        let groups = groups.iter().find(|(_, given)| *given).map(|(option, _)| *option);
        self.format.check(groups, self.goals.goals().any())?;
        self.activations.check(self.hessians.is_some())
    }
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mut out = stdout().lock();
    arguments.check()?;
    let (Some(model), false) = (&arguments.model, arguments.print_sql) else {
        let recipe = match (arguments.format.has_parts(), &arguments.hessians) {
            (true, Some(_)) => recipes::GPTQ,
            (parts, _) => arguments.activations.recipe(parts),
        };
        if arguments.goals.goals().any() {
            writeln!(out, "{};", recipes::MIXED_PRECISION.sql.trim_end())?;
        }
        return Ok(write!(out, "{}", recipe.sql)?);
    };
    let reporter = Reporter::new(arguments.json);
    let planned = until_interrupted(|cancel| plan(arguments, model, &reporter, cancel))?;
    if arguments.dry_run {
        return Ok(writeln!(out, "{}", plan_table(&planned))?);
    }
    let destination = destination(arguments)?;
    let output = &destination.output;
    let summary = until_interrupted(|cancel| Ok(planned.run(&destination, &reporter, cancel)?))?;
    if arguments.report {
        writeln!(out, "{}", report_table(output)?)?;
    }
    if arguments.json {
        writeln!(out, "{}", json(&summary, planned.by_gptq(), output))?;
    } else {
        if arguments.hessians.is_some() {
            writeln!(out, "{} tensors quantized by GPTQ", planned.by_gptq())?;
        }
        writeln!(out, "{}", text(&summary, &planned.without_activations(), output))?;
    }
    Ok(())
}

/// Where the folder goes and how it is made.
pub(super) fn destination(arguments: &Arguments) -> Result<Destination, CliError> {
    let Some(output) = &arguments.output else {
        return Err(CliError::Usage("--output DIR is missing".into()));
    };
    Ok(Destination {
        output: output.clone(),
        existing: match (arguments.resume, arguments.overwrite, arguments.force) {
            (true, ..) => Existing::Resume,
            (_, true, false) => Existing::Overwrite,
            (_, true, true) => Existing::Force,
            _ => Existing::Refuse,
        },
        check: !arguments.no_check,
        threads: arguments.threads(),
        memory_limit: arguments.memory_limit,
    })
}

/// What the arguments ask for: known from the headers alone but where bits are chosen by measurement.
pub(super) fn plan(
    arguments: &Arguments,
    model: &Path,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<PlannedJob, CliError> {
    arguments.check()?;
    let goals = arguments.goals.goals();
    let planned = job(arguments, model)?.plan()?;
    if !arguments.dry_run {
        // Bits may be chosen by measuring the whole model: what is in the way is said before.
        let others = arguments.hessians.iter().chain(&arguments.activations.activations).cloned();
        planned.check_target(&destination(arguments)?, others)?;
    }
    let mut planned = planned.reach(goals, arguments.threads(), arguments.memory_limit, progress, cancel)?;
    if let Some(file) = &arguments.hessians {
        planned = planned.with_hessians(file, arguments.threads())?;
    }
    if let Some(options) = arguments.activations.options()? {
        planned = planned.with_activations(options)?;
    }
    Ok(match arguments.activations.equalize {
        Some(by) => planned.with_equalization(by)?,
        None => planned,
    })
}

fn job(arguments: &Arguments, model: &Path) -> Result<Job, CliError> {
    let profile = arguments.activations.profile;
    let bits = arguments.bits.or(profile.map(|profile| profile.bits)).unwrap_or(Bits::Four);
    let group_size = profile.map_or(QuantizeOptions::DEFAULT_GROUP_SIZE, |profile| profile.group_size);
    let options = QuantizeOptions::new(bits)
        .with_group_size(arguments.group_size.unwrap_or(i64::from(group_size)))
        .map_err(|error| CliError::Usage(error.to_string()))?
        .with_symmetric(arguments.symmetric);
    let rules = Ok(Rules::new(options, arguments.method));
    let rules = arguments.include.iter().fold(rules, |rules, pattern| rules?.include(pattern));
    let rules = arguments.exclude.iter().fold(rules, |rules, pattern| rules?.exclude(pattern));
    let rules = arguments.bits_for.iter().fold(rules, |rules, rule| rules?.bits_for(rule));
    let rules = rules.map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(Job { model: model.to_owned(), rules, target: arguments.format.target(), batch: arguments.batch })
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
                format::groups(*options),
                options.method,
                if options.symmetric { ", symmetric" } else { "" },
                chosen.map_or_else(String::new, |width| format!(", {:.2} dB", width.sqnr())),
                if choice.note.is_empty() { String::new() } else { format!(" ({})", choice.note) },
            ),
            None => format!("as it is: {}", choice.note),
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
        if summary.checked { ": every tensor read back and as it was meant" } else { ": not read back" },
    )
}

pub(super) fn json(summary: &Summary, gptq_tensors: usize, output: &Path) -> serde_json::Value {
    let totals = &summary.totals;
    let stats = totals.errors.map(|errors| errors.stats());
    let equalization = summary.prepared.equalization.as_ref();
    serde_json::json!({
        "output": output,
        "tensors": totals.tensors,
        "quantized_tensors": totals.quantized_tensors,
        "gptq_tensors": gptq_tensors,
        "quantized_weights": totals.weights,
        "bits_per_weight": totals.bits_per_weight,
        // JSON has no infinity: weights that lost nothing have no ratio.
        "sqnr_db": stats.map(|stats| stats.sqnr()).filter(|db| db.is_finite()),
        "cosine": stats.map(|stats| stats.cosine_similarity()),
        "mse": stats.map(|stats| stats.mse()),
        "max_abs_error": stats.map(|stats| stats.max_abs),
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "file_bytes": summary.file_bytes,
        "seconds": summary.seconds,
        "peak_memory": summary.peak_memory,
        "resumed_parts": summary.resumed_parts,
        "activation_quantizers": summary.prepared.params.as_ref().map(arrow_array::RecordBatch::num_rows),
        "equalized_tensors": equalization.map(|equalization| equalization.folded() + equalization.scaled()),
        "folded_tensors": equalization.map(Equalization::folded),
        "checked": summary.checked,
    })
}
