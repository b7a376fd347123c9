//! `arrow-quant quantize`: the main job.

use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arrow_array::{RecordBatch, cast::AsArray, types::Float64Type};

use super::{CliError, options, progress::Reporter, table};
use crate::{
    io::{Existing, OutputFormat, Rules},
    sql::{Cancel, Destination, Job, JobError, PlannedJob, Progress, Summary, recipes},
    types::{Bits, Method, QuantizeOptions},
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A safetensors file, a folder of shards, or a diffusers folder
    #[arg(required_unless_present = "print_sql")]
    model: Option<PathBuf>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["dry_run", "print_sql"])]
    output: Option<PathBuf>,
    /// Bits per code: 2, 3, 4 or 8
    #[arg(long, short, default_value = "4")]
    bits: Bits,
    /// Weights that share a scale and a zero point
    #[arg(long, short, value_name = "N", default_value_t = i64::from(QuantizeOptions::DEFAULT_GROUP_SIZE))]
    group_size: i64,
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
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
    /// Read the whole model to memory first
    #[arg(long)]
    batch: bool,
    /// Go on with an interrupted run
    #[arg(long, conflicts_with = "overwrite")]
    resume: bool,
    /// Replace the output folder, or the rest of an interrupted run
    #[arg(long)]
    overwrite: bool,
    /// Say what would happen to each tensor; read no weights, write nothing
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "report"])]
    dry_run: bool,
    /// Files the weights are written to
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print the report, one line per tensor
    #[arg(long)]
    report: bool,
    /// Print the query that would run, and stop
    #[arg(long)]
    print_sql: bool,
    /// Fail when a quantized tensor has a lower signal-to-noise ratio than this, in dB
    #[arg(long, value_name = "DB")]
    min_sqnr: Option<f64>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum Format {
    /// Parquet
    #[default]
    Parquet,
    /// Arrow IPC files
    Arrow,
}

impl From<JobError> for CliError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::Io(error) => error.into(),
            JobError::Query(error) => error.into(),
            cancelled @ JobError::Cancelled(_) => Self::Failed(cancelled.to_string()),
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let mut out = stdout().lock();
    let (Some(model), false) = (&arguments.model, arguments.print_sql) else {
        return Ok(write!(out, "{}", recipes::QUANTIZE.sql)?);
    };
    let planned = job(arguments, model)?.plan()?;
    if arguments.dry_run {
        return Ok(writeln!(out, "{}", plan_table(&planned)?)?);
    }
    let Some(output) = &arguments.output else {
        return Err(CliError::Usage("--output DIR is missing".into()));
    };
    let destination = Destination {
        output: output.clone(),
        format: match arguments.format {
            Format::Parquet => OutputFormat::Parquet,
            Format::Arrow => OutputFormat::Arrow,
        },
        existing: match (arguments.resume, arguments.overwrite) {
            (true, _) => Existing::Resume,
            (_, true) => Existing::Overwrite,
            _ => Existing::Refuse,
        },
        threads: arguments.threads.unwrap_or_else(options::cores),
    };
    let summary = run_until_interrupted(&planned, &destination, &Reporter::new(arguments.json))?;
    if arguments.report {
        let text = table::as_text(&summary.report).and_then(|batch| table::pretty(&[batch]));
        writeln!(out, "{}", text.map_err(datafusion::common::DataFusionError::from)?)?;
    }
    if arguments.json {
        writeln!(out, "{}", json(&summary, output))?;
    } else {
        writeln!(out, "{}", text(&summary, output))?;
    }
    match arguments.min_sqnr {
        Some(limit) => check_sqnr(&summary.report, limit),
        None => Ok(()),
    }
}

fn job(arguments: &Arguments, model: &Path) -> Result<Job, CliError> {
    let options = QuantizeOptions::new(arguments.bits)
        .with_group_size(arguments.group_size)
        .map_err(|error| CliError::Usage(error.to_string()))?
        .with_symmetric(arguments.symmetric);
    let rules = Ok(Rules::new(options, arguments.method));
    let rules = arguments.include.iter().fold(rules, |rules, pattern| rules?.include(pattern));
    let rules = arguments.exclude.iter().fold(rules, |rules, pattern| rules?.exclude(pattern));
    let rules = arguments.bits_for.iter().fold(rules, |rules, rule| rules?.bits_for(rule));
    let rules = rules.map_err(|error| CliError::Usage(error.to_string()))?;
    Ok(Job { model: model.to_owned(), rules, batch: arguments.batch })
}

/// Runs the job on a thread of its own while this one listens for Ctrl-C.
fn run_until_interrupted(
    planned: &PlannedJob,
    destination: &Destination,
    reporter: &Reporter,
) -> Result<Summary, CliError> {
    let runtime = options::runtime(Some(1))?;
    let cancel = Arc::new(Cancel::new(false));
    let seen = Arc::clone(&cancel);
    runtime.spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            seen.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let result = planned.run(destination, reporter, &cancel);
    reporter.finish();
    runtime.shutdown_timeout(Duration::ZERO);
    Ok(result?)
}

/// What would happen to each tensor, and the sums.
fn plan_table(planned: &PlannedJob) -> Result<String, CliError> {
    use std::fmt::Write;

    let tensors = planned.model().tensors();
    let width = tensors.iter().map(|tensor| tensor.name.len()).max().unwrap_or(0).max(6);
    let mut text = format!("{:<width$}  {:<18} {:<7} {:>10} {:>10}  what\n", "tensor", "shape", "dtype", "bytes in", "bytes out");
    let (mut total_in, mut total_out) = (0, 0);
    for ((tensor, choice), bytes_out) in tensors.iter().zip(planned.choices()).zip(planned.bytes_out()) {
        let what = match &choice.options {
            Some(options) => format!(
                "{} bits, groups of {}, {}{}",
                options.bits,
                options.group_size(),
                options.method,
                if options.symmetric { ", symmetric" } else { "" }
            ),
            None => format!("as it is: {}", choice.note),
        };
        let bytes_in = tensor.bytes() as u64;
        total_in += bytes_in;
        total_out += bytes_out;
        let _ = writeln!(
            text,
            "{:<width$}  {:<18} {:<7} {:>10} {:>10}  {what}",
            tensor.name,
            format!("{:?}", tensor.shape),
            tensor.dtype.to_string(),
            table::bytes(bytes_in),
            table::bytes(bytes_out),
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
    Ok(text)
}

fn text(summary: &Summary, output: &Path) -> String {
    let totals = &summary.totals;
    let rate = table::quantity((totals.quantized_parameters as f64 / summary.seconds) as u64);
    format!(
        "{} of {} tensors quantized, {} weights at {:.3} bits, {:.2} dB SQNR, cosine {:.6}\n\
         {} to {} in {:.1} s ({rate} weights/s), peak memory {}\n{}",
        totals.quantized_tensors,
        totals.tensors,
        table::quantity(totals.quantized_parameters),
        totals.bits_per_weight,
        totals.sqnr_db,
        totals.cosine,
        table::bytes(totals.bytes_in),
        table::bytes(totals.bytes_out),
        summary.seconds,
        summary.peak_memory.map_or_else(|| "unknown".into(), table::bytes),
        output.display(),
    )
}

fn json(summary: &Summary, output: &Path) -> serde_json::Value {
    let totals = &summary.totals;
    serde_json::json!({
        "output": output,
        "tensors": totals.tensors,
        "quantized_tensors": totals.quantized_tensors,
        "quantized_parameters": totals.quantized_parameters,
        "bits_per_weight": totals.bits_per_weight,
        "sqnr_db": totals.sqnr_db,
        "cosine": totals.cosine,
        "mse": totals.mse,
        "max_abs_error": totals.max_abs_error,
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "seconds": summary.seconds,
        "peak_memory": summary.peak_memory,
        "resumed_parts": summary.resumed_parts,
    })
}

/// The folder is whole; the exit code and one line say that it is not good enough.
fn check_sqnr(report: &RecordBatch, limit: f64) -> Result<(), CliError> {
    let missing = || CliError::Failed("the report has no figures".into());
    let names = report.column_by_name("name").ok_or_else(missing)?.as_string_view();
    let figures = report.column_by_name("sqnr_db").ok_or_else(missing)?.as_primitive::<Float64Type>();
    let below: Vec<_> = (0..report.num_rows()).filter(|row| figures.iter().nth(*row).flatten() < Some(limit)).collect();
    let below: Vec<_> = below.into_iter().filter(|row| arrow_array::Array::is_valid(figures, *row)).collect();
    match below.iter().min_by(|a, b| figures.value(**a).total_cmp(&figures.value(**b))) {
        None => Ok(()),
        Some(worst) => Err(CliError::Failed(format!(
            "{} tensors are below {limit} dB, the worst {} with {:.2} dB",
            below.len(),
            names.value(*worst),
            figures.value(*worst)
        ))),
    }
}
