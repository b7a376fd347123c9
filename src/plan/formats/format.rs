//! A format that a run writes, as data and two functions.

use super::export::Export;
use crate::{
    model::Model,
    plan::{fused_layers::fused, selection::Choice, spec::Spec},
    storage::error::IoError,
    types::{Bits, Method, PartFormat, QuantizeOptions},
};

/// A format that a run writes. It is known by its entry in [`ALL`](super::ALL): help, checks and Python go by that list.
pub trait Format: Sync {
    /// Returns the name, as `--format` takes it.
    fn name(&self) -> &'static str;

    /// Returns what it is, for the help of `--format`.
    fn summary(&self) -> &'static str;

    /// Returns the fields of [`Spec`] that mean something in this format, of those that do not in all.
    fn options(&self) -> &'static [&'static str];

    /// Returns the format of the parts that the rows are written to. `None` means files with a place for each row.
    fn part_format(&self) -> Option<PartFormat> {
        None
    }

    /// Returns true if a quantized tensor has a type of the format's own in place of bits, group size and method.
    fn has_types(&self) -> bool {
        false
    }

    /// Reads a type of the format's own for a choice, as a saved plan has it.
    ///
    /// # Errors
    /// Returns an error that says what is accepted.
    fn set_type(&self, _choice: &mut Choice, text: &str) -> Result<(), String> {
        Err(format!("must be null in a plan for {}, not '{text}'", self.name()))
    }

    /// Returns true if tensors in blocks of GGUF stay as they are.
    fn keeps_blocks(&self) -> bool {
        false
    }

    /// Returns true if engines fuse layers of this format, which then need one width.
    fn is_fused_by_engines(&self) -> bool {
        false
    }

    /// Returns the tensors of each group that engines load as one, which a budget gives one width.
    fn together(&self, model: &Model) -> Vec<Vec<usize>> {
        if self.is_fused_by_engines() { fused(model) } else { Vec::new() }
    }

    /// Returns true if a library loads it as a part of a diffusers pipeline.
    fn loads_in_pipeline(&self, _library: &str) -> bool {
        false
    }

    /// Returns the choices among which a budget or a least ratio decides for a tensor that is to be quantized with some options, the
    /// fewest bits first. `method` is the one asked for, if any.
    fn widths(&self, choice: &Choice, options: QuantizeOptions, method: Option<Method>) -> Vec<Choice> {
        let with = |bits| options.with_bits(bits).with_method(method.unwrap_or(Method::default_for(bits)));
        Bits::ALL.into_iter().map(|bits| Choice { options: Some(with(bits)), ..choice.clone() }).collect()
    }

    /// Returns the kinds of tensors that stay as they are by default elsewhere, and are quantized here.
    fn quantizes(&self) -> &'static [&'static str] {
        &[]
    }

    /// Completes the choices that the spec's patterns gave, before a person may edit them.
    ///
    /// # Errors
    /// Returns an error if an option of the format matches nothing in the model.
    fn choose(&self, _model: &Model, _choices: &mut [Choice], _spec: &Spec) -> Result<(), IoError> {
        Ok(())
    }

    /// Plans the files: how the rows of each tensor are encoded, and where they lie. The choices may change: a format that
    /// cannot hold a tensor quantized so says why in its note. `None` means parts, which need no plan.
    ///
    /// # Errors
    /// Returns an error if the format cannot hold the model.
    fn plan(&self, model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Option<Export>, IoError>;
}
