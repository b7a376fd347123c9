//! `arrow-quant quantize`: the main job.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use super::{
    CliError,
    inspect::{copied_parts, left_behind, passed_over},
    interrupt::until_interrupted,
    progress::Reporter,
    run_arguments, spec_arguments, table,
};
use crate::{
    model::pipeline::component,
    plan::bit_allocation::{entropy::Entropy, width::Width},
    run::{Cancel, pipeline::PlannedPipeline, plan::Plan, progress::Progress},
    storage::escape::escaped,
    types::QuantizeOptions,
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A safetensors file, a folder of shards, a diffusers folder, or one that compressed-tensors packed or quantize made
    pub(super) model: PathBuf,
    /// Take this part of a diffusers pipeline alone, e.g. transformer [default: of a pipeline all denoisers and text encoders
    /// are quantized and the rest is copied, with --format safetensors and, for text encoders alone, compressed-tensors;
    /// with other formats the denoiser alone is taken]
    #[arg(long, value_name = "NAME", help_heading = "What to quantize")]
    component: Option<String>,
    /// The folder to make
    #[arg(long, short, value_name = "DIR", required_unless_present_any = ["dry_run", "print_sql"])]
    output: Option<PathBuf>,
    #[command(flatten)]
    spec: spec_arguments::Arguments,
    #[command(flatten)]
    running: run_arguments::Arguments,
    /// Print the plan for each tensor; write nothing (weights are read only where bits are chosen by measurement)
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "report", "json"], help_heading = "Running")]
    pub(super) dry_run: bool,
    /// Print the tables and the query that would run, as statements of SQL, and stop
    #[arg(long, conflicts_with_all = ["resume", "overwrite", "report", "json", "dry_run"], help_heading = "Running")]
    print_sql: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let (spec, settings) = (arguments.spec.spec()?, arguments.running.settings()?);
    let output = arguments.output.as_deref().filter(|_| !arguments.dry_run && !arguments.print_sql);
    let reporter = Reporter::new(arguments.running.printed.json);
    let model = match &arguments.component {
        Some(name) => component(&arguments.model, name)?,
        None => arguments.model.clone(),
    };
    if arguments.component.is_none() && !arguments.print_sql {
        let pipeline = until_interrupted(|cancel| {
            Ok(PlannedPipeline::new(spec.clone(), &model, output, &settings, &reporter, cancel)?)
        })?;
        if let Some(pipeline) = pipeline {
            return match output {
                Some(output) => arguments.running.run_pipeline(&pipeline, output),
                None => Ok(writeln!(stdout().lock(), "{}", pipeline_table(&pipeline))?),
            };
        }
    }
    let planned = until_interrupted(|cancel| {
        let planned = Plan::new(spec, &model, output, &settings, &reporter, cancel)?;
        Ok(if arguments.print_sql { planned.measured(&settings, &reporter, cancel)? } else { planned })
    })?;
    match output {
        Some(output) => arguments.running.run(&planned, output),
        None if arguments.print_sql => Ok(write!(stdout().lock(), "{}", planned.script(&model)?)?),
        None => Ok(writeln!(stdout().lock(), "{}", plan_table(&planned))?),
    }
}

/// Runs the command without a word, under the caller's progress and cancellation.
pub(super) fn run_watched(arguments: &Arguments, progress: &dyn Progress, cancel: &Cancel) -> Result<(), CliError> {
    let settings = arguments.running.settings()?;
    let output = arguments.output.as_deref().ok_or_else(|| CliError::Usage("`output` DIR is missing".into()))?;
    let planned = Plan::new(arguments.spec.spec()?, &arguments.model, Some(output), &settings, progress, cancel)?;
    planned.run(output, &settings, progress, cancel)?;
    Ok(())
}

/// Returns how large the groups are, in words.
fn groups(options: QuantizeOptions) -> String {
    if options.is_per_row() { "one group a row".to_owned() } else { format!("groups of {}", options.group_size()) }
}

/// Returns how a tensor is entropy-coded, in words.
fn entropy_coded(entropy: Entropy, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
    match entropy.step {
        Some(step) => format!("{:.3} bits, entropy, step {step}{note}", entropy.bits),
        None => format!("{} bits, entropy{note}", entropy.bits),
    }
}

/// Returns the plan of each part of a pipeline, as text.
fn pipeline_table(pipeline: &PlannedPipeline) -> String {
    let parts = pipeline.parts().iter().map(|(name, part)| format!("{}:\n{}\n", escaped(name), plan_table(part)));
    parts.collect::<String>() + &copied_parts(pipeline)
}

/// Tells by its note whether a tensor is not in the output.
fn is_gone(note: &str) -> bool {
    note.starts_with("left out: ") || note.starts_with("scale, applied")
}

/// The decision for each tensor, and the sums.
pub(super) fn plan_table(planned: &Plan) -> String {
    use std::fmt::Write;

    let tensors = planned.model().tensors();
    let names: Vec<_> = tensors.iter().map(|tensor| escaped(&tensor.name)).collect();
    let width = table::width("tensor", names.iter());
    let mut text =
        format!("{:<width$}  {:<18} {:<7} {:>10} {:>10}  what\n", "tensor", "shape", "dtype", "bytes in", "bytes out");
    let (mut total_in, mut total_out) = (0, 0);
    let sqnr = |width: Option<&Width>| width.map_or_else(String::new, |width| format!(", {:.2} dB", width.sqnr()));
    let rows = tensors.iter().zip(planned.choices()).zip(planned.bytes_out()).zip(planned.chosen_widths());
    for ((((tensor, choice), bytes_out), chosen), name) in rows.zip(&names) {
        let entropy = choice.entropy.map(|entropy| entropy_coded(entropy, &choice.note));
        let what = match &choice.options {
            Some(_) if entropy.is_some() => entropy.unwrap_or_default(),
            Some(_) if choice.width_of_type().is_some() => format!("{}{}", choice.note, sqnr(chosen)),
            Some(options) => format!(
                "{} bits, {}, {}{}{}{}",
                options.bits,
                groups(*options),
                options.method,
                if options.symmetric { ", symmetric" } else { "" },
                sqnr(chosen),
                if choice.note.is_empty() { String::new() } else { format!(" ({})", choice.note) },
            ),
            None if is_gone(&choice.note) => choice.note.clone(),
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
    for (tensor, why) in planned.model().dropped() {
        let (name, shape) = (escaped(&tensor.name), format!("{:?}", tensor.shape));
        let (bytes, dtype) = (table::bytes(tensor.bytes() as u64), tensor.dtype_name());
        let _ = writeln!(text, "{name:<width$}  {shape:<18} {dtype:<7} {bytes:>10} {:>10}  {}", "", escaped(why));
    }
    let _ = writeln!(text, "{}", escaped(&planned.share()));
    text.extend(planned.refused_by_engines().map(|line| format!("{}\n", escaped(&line))));
    let quantized = planned.choices().iter().filter(|choice| choice.options.is_some()).count();
    text.push_str(&passed_over(planned.model()));
    text.push_str(&left_behind(planned.left_behind()));
    let _ = write!(
        text,
        "{quantized} of {} tensors would be quantized: {} to {}",
        tensors.len(),
        table::bytes(total_in),
        table::bytes(total_out)
    );
    text
}
