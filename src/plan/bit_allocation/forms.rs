//! The forms that each tensor may be stored in, and the bytes that each takes.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow_schema::{DataType, Field, Schema};

use crate::{
    model::Model,
    plan::{
        choices_table::{option_columns, option_fields},
        formats,
        selection::Choice,
        spec::Spec,
    },
    storage::error::IoError,
    types::{Encoding, QuantizeOptions},
};

/// The column of the position of a form among those of its tensor.
pub const FORM: &str = "form";

/// The most bytes that lie between two tensors of a file.
const ALIGNMENT: u64 = 32;

/// A form that a tensor may be stored in.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// The choice that leads to it.
    pub choice: Choice,
    /// The way in which its rows are stored.
    pub stored: Stored,
    /// The bytes that it takes.
    pub bytes: u64,
}

/// The way in which rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As codes of our own.
    Quantized(QuantizeOptions),
    /// As a format for engines has them.
    Encoded(Encoding),
    /// As they are.
    Unchanged,
}

/// The forms of all tensors.
#[derive(Debug)]
pub struct Forms {
    /// The forms of each tensor of the model, the fewest bits first; none for a tensor that is copied unchanged.
    pub of_tensors: Vec<Vec<Form>>,
    /// The most bytes that the files have beside the tensors with forms.
    pub beside: u64,
}

impl Forms {
    /// Finds the forms that each tensor may have, from the choices that a goal may make for it (`asked`, none where it is copied
    /// unchanged, as in `choices`). The format plans its files once for each: what it cannot hold in one form has that in which it
    /// would hold it instead.
    ///
    /// # Errors
    /// Returns an error if the format cannot hold the model.
    pub fn new(model: &Model, choices: &[Choice], asked: &[Vec<Choice>], spec: &Spec) -> Result<Self, IoError> {
        let format = formats::of(spec)?;
        let mut forms = Self { of_tensors: vec![Vec::new(); choices.len()], beside: 0 };
        for at in 0..asked.iter().map(Vec::len).max().unwrap_or(0) {
            let one = asked.iter().zip(choices).map(|(asked, choice)| asked.get(at).or(asked.last()).unwrap_or(choice));
            let one: Vec<Choice> = one.cloned().collect();
            let mut fitted = one.clone();
            let export = format.plan(model, &mut fitted, spec)?;
            let mut beside = 0;
            for (number, tensor) in model.tensors().iter().enumerate() {
                let bytes = match &export {
                    Some(export) => export.layout.bytes_of(number, tensor.rows),
                    None => fitted[number].bytes_out(model, tensor),
                };
                if asked[number].is_empty() {
                    beside += bytes;
                }
                if at >= asked[number].len() {
                    continue;
                }
                let stored = match (&export, fitted[number].options) {
                    (Some(export), _) => export.tensors[number].encoding.map_or(Stored::Unchanged, Stored::Encoded),
                    (None, options) => options.map_or(Stored::Unchanged, Stored::Quantized),
                };
                let choice = one[number].clone();
                match forms.of_tensors[number].iter_mut().find(|form| form.stored == stored) {
                    // What was asked for fits better than what another became.
                    Some(form) => form.choice = choice,
                    None => forms.of_tensors[number].push(Form { choice, stored, bytes }),
                }
            }
            if let Some(export) = &export {
                let tensors = model.tensors().iter().enumerate();
                let rows: u64 = tensors.map(|(number, tensor)| export.layout.bytes_of(number, tensor.rows)).sum();
                beside += export.layout.total_bytes().saturating_sub(rows) + ALIGNMENT * model.tensors().len() as u64;
            }
            forms.beside = forms.beside.max(beside);
        }
        // What the format holds in no other form is not quantized.
        for of_tensor in &mut forms.of_tensors {
            if of_tensor.iter().all(|form| form.stored == Stored::Unchanged) {
                forms.beside += of_tensor.drain(..).map(|form| form.bytes).max().unwrap_or_default();
            }
        }
        Ok(forms)
    }

    /// Returns the forms that lose something, one row each: the table `candidates` that `sql/mixed_precision.sql` and
    /// `sql/mixed_types.sql` join the weights with.
    ///
    /// # Errors
    /// Returns an error if Arrow refuses to build the batch.
    pub fn batch(&self, model: &Model) -> Result<RecordBatch, IoError> {
        let rows = || {
            let tensors = model.tensors().iter().zip(&self.of_tensors);
            let forms = tensors.flat_map(|(tensor, forms)| {
                forms.iter().enumerate().map(|(at, form)| (tensor.name.as_str(), at as i64, form.stored))
            });
            forms.filter(|(_, _, stored)| *stored != Stored::Unchanged)
        };
        let options = rows().map(|(name, _, stored)| match stored {
            Stored::Quantized(options) => (name, Some(options)),
            Stored::Encoded(_) | Stored::Unchanged => (name, None),
        });
        let encodings = rows().map(|(_, _, stored)| match stored {
            Stored::Encoded(encoding) => Some(encoding.to_string()),
            Stored::Quantized(_) | Stored::Unchanged => None,
        });
        let mut fields = option_fields(true);
        fields.push(Field::new(FORM, DataType::Int64, false));
        fields.push(Field::new("encoding", DataType::Utf8View, true));
        let mut columns = option_columns(options);
        columns.push(Arc::new(Int64Array::from_iter_values(rows().map(|(_, at, _)| at))) as ArrayRef);
        columns.push(Arc::new(encodings.collect::<StringViewArray>()));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(IoError::arrow(model.folder()))
    }
}
