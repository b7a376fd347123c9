//! A diffusers pipeline as a pipeline: the denoisers and text encoders quantized, each by a run of its own, the rest copied.

use std::{
    collections::{BTreeSet, HashSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use arrow::compute::concat_batches;
use arrow_array::{RecordBatch, StringViewArray, cast::AsArray};
use arrow_schema::ArrowError;
use datafusion::common::DataFusionError;

use super::{
    Cancel, RunError, RunSettings,
    measure::prepared::Prepared,
    plan::Plan,
    progress::Progress,
    report::{FarBelow, Totals, peak_memory::peak_resident, summary::Summary},
};
use crate::{
    model::{
        Model,
        pipeline::{Component, components},
        side_files::SideFiles,
    },
    output::{existing::Existing, folder::OutputFolder, new_manifest::sources, reads::Reads},
    plan::{
        formats,
        share::Share,
        spec::{Spec, pattern_rule::Pattern, spec_error::SpecError},
    },
    storage::{
        error::IoError,
        folder::manifest::{FORMAT_VERSION, MANIFEST, Manifest, Source},
        stamp::Stamp,
    },
    types::{ErrorSums, report::report_schema},
};

/// The name of the format in the manifest of a pipeline.
const PIPELINE: &str = "pipeline";

/// A pipeline whose parts are planned.
#[derive(Debug)]
pub struct PlannedPipeline {
    spec: Spec,
    /// The parts that are quantized, by the name of their folder.
    parts: Vec<(String, Plan)>,
    side: SideFiles,
    reads: Reads,
}

impl PlannedPipeline {
    /// Plans a run for each part of a pipeline that is quantized: the denoisers (`transformer`, `unet`) and text encoders that
    /// the format's loaders load there. `None` means that the model is no pipeline, or that the format has no place in one.
    ///
    /// # Errors
    /// Returns the errors of [`Plan::new`], and an error if an option is one of a single part, or a pattern matches in
    /// no part.
    pub fn new(
        spec: Spec,
        model: &Path,
        output: Option<&Path>,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Option<Self>, RunError> {
        let format = formats::of(&spec).map_err(IoError::from)?;
        let mut chosen = components(model)?;
        chosen.retain(|part| is_chosen(part) && format.loads_in_pipeline(&part.library));
        if chosen.is_empty() {
            return Ok(None);
        }
        let of_one = [("activations", spec.activations.is_some()), ("hessians", spec.hessians.is_some())];
        if let Some((option, _)) = of_one.iter().find(|(_, given)| *given) {
            let problem = "is of one part of a pipeline; choose it with `component`";
            return Err(IoError::from(SpecError::new(option, problem)).into());
        }
        let mut opened = Vec::new();
        for part in chosen {
            let path = model.join(&part.name);
            let names: Vec<String> = Model::open(&path)?.tensors().iter().map(|tensor| tensor.name.clone()).collect();
            opened.push((part.name, path, names));
        }
        check_patterns(&spec, model, || opened.iter().flat_map(|(.., names)| names))?;
        let (mut parts, mut reads) = (Vec::new(), Reads::default());
        for (name, path, names) in opened {
            let Some(own) = narrowed(&spec, &names) else { continue };
            let job = Plan::new(own, &path, None, settings, progress, cancel)?;
            reads.paths.extend(job.reads.paths.iter().cloned());
            let stamp = |stamp: &Stamp| Stamp { name: format!("{name}/{}", stamp.name), ..stamp.clone() };
            reads.sources.extend(job.reads.sources.iter().map(|(path, one)| (path.clone(), stamp(one))));
            parts.push((name, job));
        }
        let quantized: HashSet<String> = parts.iter().map(|(name, _)| name.clone()).collect();
        let whole = components(model)?.into_iter().map(|part| part.name).filter(|name| !quantized.contains(name));
        let side = SideFiles::of_pipeline(model, whole.collect(), &quantized)?;
        reads.paths.push(model.to_owned());
        reads.paths.extend(side.files.iter().map(|file| file.path.clone()));
        if let Some(output) = output {
            OutputFolder::check_target(output, settings.existing, &reads)?;
        }
        Ok(Some(Self { spec, parts, side, reads }))
    }

    /// Returns the parts that are quantized, by the name of their folder.
    pub fn parts(&self) -> &[(String, Plan)] {
        &self.parts
    }

    /// Returns the folders of the parts that are copied.
    pub fn copied(&self) -> BTreeSet<&str> {
        self.side.files.iter().filter_map(|file| Some(file.name.split_once('/')?.0)).collect()
    }

    /// Lists what stays behind of what lies beside the parts, and why.
    pub fn left_behind(&self) -> &[String] {
        &self.side.left
    }

    /// Quantizes the parts one after the other into a folder that has its place when all of it is complete. A part that an
    /// interrupted run has finished is not written again. Gives the figures over the parts that were written.
    ///
    /// # Errors
    /// Returns the errors of [`Plan::run`].
    pub fn run(
        &self,
        output: &Path,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Summary, RunError> {
        let started = Instant::now();
        let manifest = self.manifest()?;
        let folder = OutputFolder::create(output, settings.existing, manifest, &self.reads)?;
        let bytes = self.parts.iter().flat_map(|(_, job)| job.bytes_out());
        folder.check_space(bytes.chain(self.side.files.iter().map(|file| file.bytes)).sum())?;
        let settings = RunSettings { existing: Existing::Resume, ..*settings };
        let mut summaries = Vec::new();
        for (name, job) in &self.parts {
            let target = folder.path().join(name);
            if !OutputFolder::is_complete(&target)? {
                summaries.push((name.as_str(), job.run(&target, &settings, progress, cancel)?));
            }
        }
        self.side.files.iter().try_for_each(|file| folder.copy(file))?;
        folder.finish()?;
        let summary = merged(summaries)?;
        Ok(Summary { seconds: started.elapsed().as_secs_f64(), checked: settings.check, ..summary })
    }

    /// Returns the manifest of the whole: the files of all parts, and those that are copied.
    fn manifest(&self) -> Result<Manifest, RunError> {
        let mut names: BTreeSet<String> = self.side.files.iter().map(|file| file.name.clone()).collect();
        let mut source_files = Vec::new();
        for (part, job) in &self.parts {
            let files = job.files(job.equalized.is_some()).1.into_iter().chain([MANIFEST.to_owned()]);
            names.extend(files.map(|file| format!("{part}/{file}")));
            let prefixed = |source: Source| Source { name: format!("{part}/{}", source.name), ..source };
            source_files.extend(sources(job.model()).into_iter().map(prefixed));
        }
        Ok(Manifest {
            format_version: FORMAT_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            complete: false,
            output_format: PIPELINE.to_owned(),
            options: self.spec.recorded().map_err(IoError::from)?,
            sql: String::new(),
            sources: source_files,
            tensors: Vec::new(),
            parts: Vec::new(),
            files: Vec::new(),
            names: Some(names.into_iter().collect()),
        })
    }
}

/// Tells whether a part is quantized unless options say otherwise.
fn is_chosen(part: &Component) -> bool {
    ["transformer", "unet", "prior", "text_encoder"].iter().any(|start| part.name.starts_with(start))
}

/// Returns every pattern of a spec, with its option.
fn patterns(spec: &Spec) -> impl Iterator<Item = (&'static str, &Pattern)> {
    let lists = [("include", &spec.include), ("exclude", &spec.exclude), ("drop", &spec.drop)];
    let lists = lists.into_iter().flat_map(|(option, list)| list.iter().map(move |pattern| (option, pattern)));
    lists.chain(spec.bits_for.iter().map(|rule| ("bits_for", &rule.pattern)))
}

/// Checks that each pattern matches a tensor of some part.
fn check_patterns<'n, N: Iterator<Item = &'n String>>(
    spec: &Spec,
    model: &Path,
    names: impl Fn() -> N,
) -> Result<(), IoError> {
    match patterns(spec).find(|(_, pattern)| !names().any(|name| pattern.is_match(name))) {
        None => Ok(()),
        Some((option, pattern)) => {
            let problem = format!("'{pattern}' matches no tensor of {}", model.display());
            Err(SpecError::new(option, problem).into())
        }
    }
}

/// Returns the spec with those patterns alone that match a tensor of a part. `None` means that nothing of it is included.
fn narrowed(spec: &Spec, names: &[String]) -> Option<Spec> {
    let matches = |pattern: &Pattern| names.iter().any(|name| pattern.is_match(name));
    let mut own = spec.clone();
    for patterns in [&mut own.include, &mut own.exclude, &mut own.drop] {
        patterns.retain(matches);
    }
    own.bits_for.retain(|rule| matches(&rule.pattern));
    (spec.include.is_empty() || !own.include.is_empty()).then_some(own)
}

/// Adds up the figures of parts. The names of tensors begin with that of their part.
fn merged(summaries: Vec<(&str, Summary)>) -> Result<Summary, RunError> {
    let mut whole = Summary {
        report: RecordBatch::new_empty(report_schema()),
        far_below: Vec::new(),
        share: Share { quantized: 0, parameters: 0, largest: Vec::new() },
        totals: Totals {
            tensors: 0,
            quantized_tensors: 0,
            weights: 0,
            bits_per_weight: None,
            errors: None,
            bytes_in: 0,
            bytes_out: 0,
        },
        file_bytes: 0,
        seconds: 0.0,
        resumed_parts: 0,
        checked: true,
        peak_memory: peak_resident(),
        prepared: Prepared::default(),
    };
    let (mut reports, mut bits) = (Vec::new(), 0.0);
    for (part, summary) in summaries {
        let named = |name: &str| format!("{part}/{name}");
        reports.push((format!("{part}/"), summary.report));
        let far = summary.far_below.into_iter().map(|one| FarBelow { name: named(&one.name), ..one });
        whole.far_below.extend(far);
        let largest = summary.share.largest.into_iter().map(|(name, elements, note)| (named(&name), elements, note));
        whole.share.largest.extend(largest);
        whole.share.quantized += summary.share.quantized;
        whole.share.parameters += summary.share.parameters;
        let (all, one) = (&mut whole.totals, summary.totals);
        all.tensors += one.tensors;
        all.quantized_tensors += one.quantized_tensors;
        all.weights += one.weights;
        bits += one.bits_per_weight.unwrap_or(0.0) * one.weights as f64;
        all.errors = all.errors.into_iter().chain(one.errors).reduce(ErrorSums::merge);
        all.bytes_in += one.bytes_in;
        all.bytes_out += one.bytes_out;
        whole.file_bytes += summary.file_bytes;
        whole.resumed_parts += summary.resumed_parts;
    }
    whole.totals.bits_per_weight = (whole.totals.weights > 0).then(|| bits / whole.totals.weights as f64);
    whole.share.largest.sort_by_key(|(_, elements, _)| std::cmp::Reverse(*elements));
    whole.share.largest.truncate(3);
    whole.far_below.sort_by(|a, b| a.db.total_cmp(&b.db));
    if let Some(report) = prefixed(&reports)? {
        whole.report = report;
    }
    Ok(whole)
}

/// Returns tables of parts as one, each with what the names in its first column begin with; `None` of no table.
///
/// # Errors
/// Returns an error if the tables have different columns, or the first holds no names.
pub fn prefixed(tables: &[(String, RecordBatch)]) -> Result<Option<RecordBatch>, RunError> {
    let Some((_, first)) = tables.first() else { return Ok(None) };
    let one = |(prefix, table): &(String, RecordBatch)| {
        let mut columns = table.columns().to_vec();
        let names = columns.first().and_then(|names| names.as_string_view_opt());
        let names = names.ok_or_else(|| ArrowError::SchemaError("a table has no names".to_owned()))?;
        let names = names.iter().flatten().map(|name| format!("{prefix}{name}"));
        columns[0] = Arc::new(StringViewArray::from_iter_values(names));
        RecordBatch::try_new(table.schema(), columns)
    };
    let tables = tables.iter().map(one).collect::<Result<Vec<_>, _>>();
    let table = tables.and_then(|tables| concat_batches(&first.schema(), &tables));
    Ok(Some(table.map_err(DataFusionError::from)?))
}
