//! The widths that reach a run's goals: what every tensor loses at each, measured by one scan through
//! `sql/mixed_precision.sql`, or `sql/mixed_types.sql` for the types of another format.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::{
    Survey,
    error_sums::{error_fields, error_sums},
};
use crate::{
    plan::{
        bit_allocation::{
            forms::{FORM, Form, Forms, Stored},
            goals::{Budget, Goals},
            width::{Width, Widths},
        },
        formats,
    },
    run::{
        Cancel, RunError, RunSettings,
        plan::Plan,
        progress::{Pass, Progress},
        workers::threads_within,
    },
    sql::{recipes, threads::runtime},
    storage::error::IoError,
    types::{ErrorSums, weights::NAME},
};

/// The error sums of tensors, by name and form.
type Sums = HashMap<(String, i64), ErrorSums>;

impl Plan {
    /// Chooses the width of each tensor by measurement, where the spec has a budget or a least ratio.
    ///
    /// # Errors
    /// Returns an error if weights are not finite, a file cannot be read, the run was cancelled, or the budget cannot be met
    /// (the message says what can).
    pub(in crate::run) fn allocate_bits(
        &mut self,
        settings: &RunSettings,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<(), RunError> {
        let Some(goals) = Goals::of(&self.spec) else { return Ok(()) };
        if self.spec.is_entropy() {
            return self.find_steps(goals, settings, progress, cancel);
        }
        let format = formats::of(&self.spec).map_err(IoError::from)?;
        let method = self.spec.fixed_method();
        let asked = self.selected.iter().map(|choice| goals.candidates(choice, format, method));
        let forms = Forms::new(&self.model, &self.selected, &asked.collect::<Vec<_>>(), &self.spec)?;
        let lossy = |forms: &Vec<Form>| forms.iter().any(|form| form.stored != Stored::Unchanged);
        let measured: Vec<usize> = (0..forms.of_tensors.len()).filter(|at| lossy(&forms.of_tensors[*at])).collect();
        let threads = threads_within(settings, self.loaded, self.longest_row())?;
        let runtime = runtime(1)?;
        let survey = Survey { threads, runtime: runtime.handle(), progress, cancel };
        let tables = [("candidates", forms.batch(&self.model)?)];
        let recipe = if self.export.is_some() { recipes::MIXED_TYPES } else { recipes::MIXED_PRECISION };
        let mut sums = Sums::new();
        for part in survey.run(Pass::Widths, self, &measured, recipe, &tables, &sums_schema())? {
            add_sums(&part, &mut sums);
        }
        let widths = (self.model.tensors().iter().zip(forms.of_tensors))
            .map(|(tensor, forms)| {
                let width = |(at, form): (usize, Form)| {
                    let errors = match form.stored {
                        Stored::Unchanged => ErrorSums::default(),
                        _ => *sums.get(&(tensor.name.clone(), at as i64)).ok_or_else(|| missing(&tensor.name))?,
                    };
                    Ok(Width { form, errors })
                };
                forms.into_iter().enumerate().map(width).collect::<Result<Vec<_>>>()
            })
            .collect::<Result<Vec<_>>>()?;
        let (together, asked) = (format.together(&self.model), self.selected.clone());
        let mut beside = forms.beside;
        loop {
            let chosen = goals.choose(&self.model, &widths, beside, &together)?;
            let choices = asked.iter().zip(&widths).zip(&chosen);
            self.select(choices.map(|((choice, widths), taken)| goals.chosen(choice, widths, *taken)).collect())?;
            let files = self.export.as_ref().map_or(0, |export| export.layout.total_bytes());
            // A mixture may have more headers than any plan of one type.
            match goals.budget {
                Some(Budget::Size(size)) if files > size => beside += files - size,
                _ => {
                    self.widths = Some(Widths { of_tensors: widths, chosen });
                    return Ok(());
                }
            }
        }
    }
}

/// Returns the schema of the rows that the recipe gives.
fn sums_schema() -> SchemaRef {
    let fields = [Field::new(NAME, DataType::Utf8View, true), Field::new(FORM, DataType::Int64, true)];
    Arc::new(Schema::new(fields.into_iter().chain(error_fields()).collect::<Vec<_>>()))
}

/// Adds what the rows of a part lose.
fn add_sums(part: &RecordBatch, sums: &mut Sums) {
    let (names, forms) = (part.column(0).as_string_view(), part.column(1).as_primitive::<Int64Type>().values());
    for (row, errors) in error_sums(part, 2).enumerate() {
        let Some(errors) = errors else { continue };
        let sum = sums.entry((names.value(row).to_owned(), forms[row])).or_default();
        *sum = sum.merge(errors);
    }
}

fn missing(what: &str) -> DataFusionError {
    internal_datafusion_err!("the recipe gives no figures for {what}")
}
