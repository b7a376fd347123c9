//! A report, or a comparison, as one page of HTML that needs no other file.

mod histogram;
mod section;
mod tensors;

use std::{collections::HashMap, path::Path, sync::LazyLock};

use arrow_array::RecordBatch;
use minijinja::{Environment, Value, context, value::Serde};

use self::{
    histogram::{Histogram, histogram},
    section::Section,
    tensors::{Loss, losses, of_compared},
};
use super::compare::Compared;
use crate::{
    model::Model,
    storage::{
        error::IoError,
        folder::manifest::{Manifest, REPORT},
        parquet_table,
    },
    types::report::report_schema,
};

/// The tensors whose weights are drawn: those that lost most.
const DRAWN: usize = 4;

/// Returns the page of an output folder: what it takes, what each tensor lost, the widths, the worst tensors. With `model`,
/// the one that the folder was made from, the weights of the worst tensors are drawn before and after.
///
/// # Errors
/// Returns an error if the folder has no report, or is unfinished, or if weights cannot be read.
pub fn report_page(folder: &Path, model: Option<&Path>) -> Result<String, IoError> {
    let manifest = Manifest::read(folder)?;
    if !manifest.complete {
        return Err(IoError::file(folder, "was left by a run that did not finish; resume it first"));
    }
    let losses = losses_of(folder)?;
    let histograms = match model {
        None => Vec::new(),
        Some(model) => drawn(model, folder, &losses, &HashMap::new())?,
    };
    let section = section_of(&Section::of_report(&losses, histograms), folder)?;
    page(&name_of(folder), &section, folder)
}

/// Returns the part of the page that a notebook shows: the figures of a report in memory, without drawn weights. The
/// batch has the columns of [`report_schema`].
///
/// # Errors
/// Returns an error if a column is missing, or is of another type.
pub fn report_section(report: &RecordBatch) -> Result<String, IoError> {
    let path = Path::new(REPORT);
    section_of(&Section::of_report(&losses(path, report)?, Vec::new()), path)
}

/// Returns the page of a comparison of two models, with the weights of the tensors that differ most.
///
/// # Errors
/// Returns an error if weights cannot be read.
pub fn compare_page(reference: &Path, candidate: &Path, compared: &[Compared]) -> Result<String, IoError> {
    let losses = of_compared(compared);
    let renamed = compared.iter().filter_map(|tensor| Some((tensor.name.as_str(), tensor.renamed.as_deref()?)));
    let histograms = drawn(reference, candidate, &losses, &renamed.collect())?;
    let section = section_of(&Section::of_comparison(&losses, compared, histograms), candidate)?;
    page(&format!("{} beside {}", name_of(candidate), name_of(reference)), &section, candidate)
}

fn losses_of(folder: &Path) -> Result<Vec<Loss>, IoError> {
    let path = folder.join(REPORT);
    let mut all = Vec::new();
    for batch in parquet_table::open(&path, &report_schema(), "reports", 1 << 13)? {
        all.extend(losses(&path, &batch.map_err(IoError::arrow(&path))?)?);
    }
    Ok(all)
}

/// Draws the weights of the worst tensors in both models. Tensors that one of them lacks are passed over.
fn drawn(
    before: &Path,
    after: &Path,
    losses: &[Loss],
    renamed: &HashMap<&str, &str>,
) -> Result<Vec<Histogram>, IoError> {
    let (before, after) = (Model::open(before)?, Model::open(after)?);
    let mut drawn = Vec::new();
    for loss in section::worst(losses).into_iter().take(DRAWN) {
        let name = loss.name.as_str();
        let there = renamed.get(name).copied().unwrap_or(name);
        let (Some(first), Some(second)) = (before.number_of(name), after.number_of(there)) else { continue };
        drawn.extend(histogram(name, (&before, first), (&after, second))?);
    }
    Ok(drawn)
}

fn section_of(section: &Section, path: &Path) -> Result<String, IoError> {
    render("section.html", context! { section => Serde(section) }, path)
}

fn page(title: &str, section: &str, path: &Path) -> Result<String, IoError> {
    render("page.html", context! { title, section, version => env!("CARGO_PKG_VERSION") }, path)
}

fn render(template: &str, values: Value, path: &Path) -> Result<String, IoError> {
    static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
        let mut templates = Environment::new();
        for (name, source) in [("page.html", include_str!("page.html")), ("section.html", include_str!("section.html"))]
        {
            // They are the program's own; a test renders both.
            templates.add_template(name, source).unwrap_or_else(|error| panic!("{error}"));
        }
        templates
    });
    let rendered = TEMPLATES.get_template(template).and_then(|template| template.render(values));
    rendered.map_err(|error| IoError::file(path, format!("cannot be shown as a page: {error}")))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
