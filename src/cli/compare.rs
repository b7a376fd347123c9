//! `arrow-quant compare`: compares two models tensor by tensor.

use std::{
    io::{Write, stdout},
    path::PathBuf,
};

use super::{CliError, options, report, table, workers::Workers};
use crate::{
    run::{
        compare::{Compared, compare, difference::Difference},
        page::compare_page,
        report::peak_memory::peak_resident,
    },
    storage::{atomic_file::write_renamed, escape::escaped},
    types::ErrorSums,
};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Reference model: as for quantize, or a folder that quantize made
    reference: PathBuf,
    /// Model to compare with it
    candidate: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the comparison as a page of HTML, with the weights of the tensors that differ most
    #[arg(long, value_name = "FILE", value_parser = report::html_file)]
    html: Option<PathBuf>,
    /// Threads to use [default: all cores]
    #[arg(long, value_parser = options::threads)]
    threads: Option<usize>,
}

/// The name of the line of sums.
const TOTAL: &str = "all that differ";

pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    let threads = arguments.threads.unwrap_or_else(options::cores);
    let workers = Workers::new(arguments.threads)?;
    let (reference, candidate) = (arguments.reference.clone(), arguments.candidate.clone());
    let tensors = workers.run(async move { Ok(compare(threads, &reference, &candidate).await?) })?;
    if let Some(file) = &arguments.html {
        let page = compare_page(&arguments.reference, &arguments.candidate, &tensors)?;
        write_renamed(file, page.as_bytes())?;
    }
    let errors = tensors.iter().filter_map(|tensor| match &tensor.difference {
        Difference::Error(sums) => Some(sums),
        _ => None,
    });
    let total = errors.copied().reduce(ErrorSums::merge);
    let mut out = stdout().lock();
    if arguments.json {
        let tensors: Vec<_> = tensors.iter().map(json).collect();
        let document = serde_json::json!({
            "tensors": tensors, "total": total.as_ref().map(figures), "peak_memory": peak_resident(),
        });
        return Ok(writeln!(out, "{document}")?);
    }
    let names: Vec<_> = tensors.iter().map(|tensor| escaped(&tensor.name)).collect();
    let width = table::width(TOTAL, names.iter());
    writeln!(out, "{:<width$}  {:>9} {:>10} {:>12} {:>12}", "tensor", "SQNR dB", "cosine", "mse", "max error")?;
    for (Compared { difference, .. }, name) in tensors.iter().zip(&names) {
        match difference {
            Difference::Error(sums) => writeln!(out, "{name:<width$}  {}", line(sums))?,
            other => writeln!(out, "{name:<width$}  {other}")?,
        }
    }
    if let Some(total) = &total {
        writeln!(out, "{TOTAL:<width$}  {}", line(total))?;
    }
    if let Some(example) = tensors.iter().find(|tensor| tensor.renamed.is_some()) {
        let count = |counts: fn(&&Compared) -> bool| tensors.iter().filter(counts).count();
        writeln!(
            out,
            "{} tensors are there by the names that llama.cpp has for them, such as {} for {}; the rows of {} are in its \
             order and were put back",
            count(|tensor| tensor.renamed.is_some()),
            escaped(&example.renamed.as_deref().unwrap_or_default()),
            escaped(&example.name),
            count(|tensor| tensor.reordered),
        )?;
    }
    Ok(())
}

fn line(sums: &ErrorSums) -> String {
    format!("{:>9.3} {:>10.6} {:>12.5e} {:>12.5e}", sums.sqnr(), sums.cosine_similarity(), sums.mse(), sums.max_abs)
}

fn json(tensor: &Compared) -> serde_json::Value {
    let Compared { name, renamed, reordered, difference } = tensor;
    let mut object = match difference {
        Difference::Error(sums) => figures(sums),
        _ => serde_json::json!({}),
    };
    object["name"] = name.as_str().into();
    if let Some(renamed) = renamed {
        object["candidate_name"] = renamed.as_str().into();
        object["reordered"] = (*reordered).into();
    }
    object["difference"] = difference.to_string().into();
    object
}

fn figures(sums: &ErrorSums) -> serde_json::Value {
    // JSON has no infinity: equal weights have no noise, and no ratio.
    let sqnr = Some(sums.sqnr()).filter(|db| db.is_finite());
    serde_json::json!({
        "sqnr_db": sqnr, "cosine": sums.cosine_similarity(), "mse": sums.mse(), "max_abs_error": sums.max_abs, "n": sums.n,
    })
}
