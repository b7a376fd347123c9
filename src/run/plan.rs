//! A plan: what a run will do, known from the headers alone.

use std::{path::Path, sync::Arc};

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use datafusion::common::DataFusionError;

use super::{
    Cancel, RunError, RunSettings,
    measure::{checked_activations::CheckedActivations, equalized_inputs::EqualizedInputs, prepared::Prepared},
    progress::Progress,
};
use crate::{
    model::{
        Model,
        part::{Part, part_bytes},
        side_files::SideFiles,
    },
    output::{folder::OutputFolder, reads::Reads},
    plan::{
        bit_allocation::{
            entropy_choices::entropy_choices_batch,
            width::{Width, Widths, widths_batch},
        },
        choices_table::choices_batch,
        equalization::changes::Equalization,
        formats::{self, export::Export},
        fused_layers::fused_apart,
        hessians_file::Factors,
        quantized_before,
        selection::{Choice, Selection},
        share::Share,
        spec::{Spec, spec_error::SpecError},
    },
    sql::recipes::{self, Recipe},
    storage::error::IoError,
    types::Float,
};

/// A spec applied to a model: what becomes of each tensor, and where its rows go. Weights have been read only where bits
/// are chosen by measurement.
#[derive(Debug)]
pub struct Plan {
    pub(super) spec: Spec,
    pub(super) model: Arc<Model>,
    /// The choices before the format has said what it cannot hold.
    pub(super) selected: Vec<Choice>,
    pub(super) choices: Vec<Choice>,
    /// The query, which a saved plan may have changed.
    pub(super) sql: String,
    pub(super) parts: Vec<Part>,
    pub(super) activations: Option<CheckedActivations>,
    /// The inputs whose channels are equalized; none unless asked for.
    pub(super) equalized: Option<EqualizedInputs>,
    /// The factors that GPTQ takes of the layers whose inputs are known.
    pub(super) factors: Option<Factors>,
    /// The files of a format without parts.
    pub(super) export: Option<Export>,
    /// The bytes and errors of each tensor at each width, where goals made them be measured.
    pub(super) widths: Option<Widths>,
    /// The tables that are measured. `None` means that the run measures first.
    pub(super) prepared: Option<Prepared>,
    /// The digest of the choices in a saved plan, which people may edit.
    pub(super) saved: Option<String>,
    /// The files that the run reads.
    pub(super) reads: Reads,
    /// The files beside the weights.
    pub(super) side: SideFiles,
    /// Bytes of the model that are in memory from the start.
    pub(super) loaded: u64,
}

impl Plan {
    /// Plans a run: opens the model, then selects tensors, lays out the format, checks that the output can go to `output`
    /// (`None` means a dry run), chooses bits by measurement, reads Hessians and activations, and finds the channels to
    /// equalize. The order is fixed, whatever the order of the options.
    ///
    /// # Errors
    /// Returns an error if something is in the way of the output, options do not go together ([`Spec::check`]), a file cannot be read or does not fit the model, a
    /// pattern matches nothing, the format cannot hold the model, a bit budget cannot be met (the message says what can), or
    /// the run was cancelled while weights were measured.
    pub fn new(
        spec: Spec,
        model: &Path,
        output: Option<&Path>,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Self, RunError> {
        spec.check().map_err(IoError::from)?;
        let read = open_model(&spec, model, settings)?;
        let format = formats::of(&spec).map_err(IoError::from)?;
        let mut selected = Selection(&spec).choose_with(&read, format.quantizes())?;
        format.choose(&read, &mut selected, &spec)?;
        let mut planned = Self::of_choices(spec, model, read, selected, output, settings)?;
        planned.allocate_bits(settings, progress, cancel)?;
        planned.read_hessians(settings.threads)?;
        planned.read_activations()?;
        planned.find_equalized_inputs()?;
        Ok(planned)
    }

    /// Plans what needs no weights, from what becomes of each tensor. `path` is where the model was opened.
    pub(super) fn of_choices(
        spec: Spec,
        path: &Path,
        model: Model,
        selected: Vec<Choice>,
        output: Option<&Path>,
        settings: &RunSettings,
    ) -> Result<Self, RunError> {
        let mut reads = vec![path.to_owned()];
        reads.extend(spec.hessians.iter().chain(&spec.activations).cloned());
        let loaded = if settings.batch { model.total_bytes() } else { 0 };
        reads.push(model.folder().to_owned());
        reads.extend(model.files().iter().map(|file| file.path.clone()));
        let side = model.side_files()?;
        reads.extend(side.files.iter().map(|file| file.path.clone()));
        let sources = model.files().iter().filter_map(|file| Some((file.path.clone(), file.stamp.clone()?)));
        let reads = Reads { paths: reads, sources: sources.collect() };
        if let Some(output) = output {
            OutputFolder::check_target(output, settings.existing, &reads)?;
        }
        let mut planned = Self {
            sql: recipe(&spec).sql.to_owned(),
            spec,
            model: Arc::new(model),
            selected: Vec::new(),
            choices: Vec::new(),
            parts: Vec::new(),
            activations: None,
            equalized: None,
            factors: None,
            export: None,
            widths: None,
            prepared: None,
            saved: None,
            reads,
            side,
            loaded,
        };
        planned.select(selected)?;
        Ok(planned)
    }

    /// Takes the choice for each tensor, and lays out the format for them.
    pub(super) fn select(&mut self, selected: Vec<Choice>) -> Result<(), RunError> {
        let format = formats::of(&self.spec).map_err(IoError::from)?;
        self.choices.clone_from(&selected);
        self.selected = selected;
        self.export = format.plan(&self.model, &mut self.choices, &self.spec)?;
        let rows_together = self.export.as_ref().map_or(1, Export::rows_together);
        self.parts = self.model.parts_of(None, part_bytes(self.model.total_bytes()), rows_together);
        Ok(Share::of(&self.model, &self.choices).check(self.spec.min_share).map_err(IoError::from)?)
    }

    /// The spec.
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns the plan as a table: one row per tensor, its choice and its bytes before and after.
    ///
    /// # Errors
    /// Returns an error if Arrow refuses to build the batch.
    pub fn table(&self) -> Result<RecordBatch, RunError> {
        let choices = self.choices_batch(None)?;
        let bytes_in = self.model.tensors().iter().map(|tensor| tensor.bytes() as i64);
        let bytes = [
            ("bytes_in", bytes_in.collect::<Int64Array>()),
            ("bytes_out", self.bytes_out().map(|bytes| bytes as i64).collect()),
        ];
        let mut fields = choices.schema().fields().to_vec();
        let mut columns = choices.columns().to_vec();
        for (name, values) in bytes {
            fields.push(Arc::new(Field::new(name, DataType::Int64, false)));
            columns.push(Arc::new(values));
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(DataFusionError::from)?)
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Returns the share of the parameters that is quantized.
    pub fn share(&self) -> Share {
        Share::of(&self.model, &self.choices)
    }

    /// Returns a line on what engines will refuse of the output, if anything.
    pub fn refused_by_engines(&self) -> Option<String> {
        let fuses = formats::of(&self.spec).is_ok_and(formats::format::Format::is_fused_by_engines);
        if fuses { fused_apart(&self.model, &self.choices) } else { None }
    }

    /// Lists what stays behind of what lies beside the weights, and why.
    pub fn left_behind(&self) -> &[String] {
        &self.side.left
    }

    /// Returns the choice for each tensor, in the order of the model.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    /// The table `choices` that the query joins: one row per tensor.
    ///
    /// # Errors
    /// Returns an error if a number does not fit its column.
    pub fn choices_batch(&self, equalization: Option<&Equalization>) -> Result<RecordBatch, RunError> {
        match &self.export {
            Some(export) => {
                let squares = self.activations.as_ref().map(CheckedActivations::mean_squares);
                Ok(export.choices_batch(&self.model, squares, equalization)?)
            }
            None if self.spec.is_entropy() => Ok(entropy_choices_batch(&self.model, &self.choices)?),
            None => Ok(choices_batch(&self.model, &self.choices)?),
        }
    }

    /// Returns the bytes and errors of each tensor at each width, where goals made them be measured: the table of
    /// [`widths_schema`](crate::plan::bit_allocation::width::widths_schema).
    ///
    /// # Errors
    /// Returns an error if Arrow refuses to build the batch.
    pub fn widths_batch(&self) -> Result<Option<RecordBatch>, RunError> {
        let batch = self.widths.as_ref().map(|widths| widths_batch(&self.model, widths)).transpose();
        Ok(batch?)
    }

    /// The width that was chosen for each tensor, in the order of the model, where it was measured.
    pub fn chosen_widths(&self) -> impl Iterator<Item = Option<&Width>> {
        (0..self.choices.len()).map(|tensor| self.widths.as_ref()?.chosen(tensor))
    }

    /// Returns true for a tensor of parts that is stored as F32 whatever it was: a norm or a bias that factors may be folded into.
    /// Tensors that `--equalize auto` leaves alone in the end are too, so that the size is known before.
    pub(super) fn is_widened(&self, number: usize) -> bool {
        let divided = |equalized: &EqualizedInputs| equalized.divided_vectors.contains(&number);
        self.export.is_none() && self.equalized.as_ref().is_some_and(divided)
    }

    /// The bytes of the longest row.
    pub(super) fn longest_row(&self) -> u64 {
        self.model.tensors().iter().map(|tensor| tensor.row_cost() as u64).max().unwrap_or(0)
    }

    /// The source bytes of all parts: what a pass over the model counts.
    pub(super) fn part_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Bytes that each tensor will take, in the order of the model.
    pub fn bytes_out(&self) -> impl Iterator<Item = u64> {
        let tensors = self.model.tensors().iter().zip(&self.choices).enumerate();
        tensors.map(|(number, (tensor, choice))| match &self.export {
            Some(export) => export.layout.bytes_of(number, tensor.rows),
            None if self.is_widened(number) => (tensor.elements() * Float::F32.bytes()) as u64,
            None => choice.bytes_out(&self.model, tensor),
        })
    }
}

/// Opens the model as the format of the spec reads it.
pub(super) fn open_model(spec: &Spec, path: &Path, settings: &RunSettings) -> Result<Model, RunError> {
    let model = if settings.batch { Model::load(path)? } else { Model::open(path)? };
    if model.tensors().is_empty() {
        let problem = "holds a model without any tensor: there is nothing to quantize";
        return Err(IoError::file(model.folder(), problem).into());
    }
    if let Some(pattern) = spec.drop.iter().find(|drop| !model.tensors().iter().any(|one| drop.is_match(&one.name))) {
        let problem = format!("'{pattern}' matches no tensor of {}", model.folder().display());
        return Err(IoError::from(SpecError::new("drop", problem)).into());
    }
    let model = model.without(|name| {
        let pattern = spec.drop.iter().find(|drop| drop.is_match(name))?;
        Some(format!("left out: matches '{pattern}'"))
    })?;
    quantized_before::check(&model)?;
    let format = formats::of(spec).map_err(IoError::from)?;
    // Blocks of GGUF go to GGUF as they are.
    Ok(model.decoded(format.keeps_blocks()))
}

/// Returns the recipe that quantizes the weights by a spec.
#[must_use]
pub fn recipe(spec: &Spec) -> Recipe {
    let is_parts = formats::of(spec).is_ok_and(|format| format.part_format().is_some());
    match is_parts {
        true if spec.is_entropy() => recipes::QUANTIZE_ENTROPY,
        true => recipes::QUANTIZE,
        false => recipes::EXPORT,
    }
}
