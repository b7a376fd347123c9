//! The widths that reach a run's goals: what every tensor loses at each, measured by one scan through
//! `sql/mixed_precision.sql`.

use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};

use super::Survey;
use crate::{
    plan::bit_allocation::{
        goals::Goals,
        width::{Width, candidates_batch},
    },
    run::{
        Cancel, RunError, RunSettings,
        plan::Plan,
        progress::{Pass, Progress},
        workers::threads_within,
    },
    sql::{recipes, threads::runtime},
    types::{
        ErrorSums, QuantizeOptions,
        error_stats::{A2, B2, DOT, ERR2, MAX_ABS, N},
        quantized::BITS,
        weights::NAME,
    },
};

/// The error sums of tensors, by name and bits.
type Sums = HashMap<(String, i64), ErrorSums>;

impl Plan {
    /// Chooses the bits of each tensor by measurement, where the spec has a budget or a least ratio.
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
        let method = self.spec.fixed_method();
        let candidates: Vec<_> = self.choices.iter().map(|choice| goals.candidates(choice, method)).collect();
        let measured: Vec<usize> = (0..candidates.len()).filter(|tensor| !candidates[*tensor].is_empty()).collect();
        let threads = threads_within(settings, self.loaded, self.longest_row())?;
        let runtime = runtime(1)?;
        let survey = Survey { threads, runtime: runtime.handle(), progress, cancel };
        let tables = [("candidates", candidates_batch(&self.model, &candidates)?)];
        let mut sums = Sums::new();
        for part in survey.run(Pass::Widths, self, &measured, recipes::MIXED_PRECISION, &tables, &sums_schema())? {
            add_sums(&part, &mut sums);
        }
        let widths = (self.model.tensors().iter().zip(candidates))
            .map(|(tensor, candidates)| {
                let width = |options: QuantizeOptions| {
                    let errors = sums.get(&(tensor.name.clone(), i64::from(options.bits.get())));
                    let errors = *errors.ok_or_else(|| missing(&tensor.name))?;
                    let bytes = options.row_bytes(tensor.row_length) as u64 * tensor.rows as u64;
                    Ok(Width { options, bytes, errors })
                };
                candidates.into_iter().map(width).collect::<Result<Vec<_>>>()
            })
            .collect::<Result<Vec<_>>>()?;
        self.choices = goals.choose(&self.model, &self.choices, &widths)?;
        // Formats that change a choice have no budget.
        self.selected.clone_from(&self.choices);
        self.widths = Some(widths);
        Ok(())
    }
}

/// Returns the schema of the rows that the recipe gives.
fn sums_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Float64, true);
    Arc::new(Schema::new(vec![
        Field::new(NAME, DataType::Utf8View, true),
        Field::new(BITS, DataType::Int64, true),
        number(DOT),
        number(A2),
        number(B2),
        number(ERR2),
        number(MAX_ABS),
        Field::new(N, DataType::Int64, true),
    ]))
}

/// Adds what the rows of a part lose.
fn add_sums(part: &RecordBatch, sums: &mut Sums) {
    let number = |column: usize| part.column(column).as_primitive::<Float64Type>().values();
    let (names, bits) = (part.column(0).as_string_view(), part.column(1).as_primitive::<Int64Type>().values());
    let [dot, a2, b2, err2, max_abs] = [2, 3, 4, 5, 6].map(number);
    let n = part.column(7).as_primitive::<Int64Type>().values();
    for row in 0..part.num_rows() {
        let errors = ErrorSums {
            dot: dot[row],
            a2: a2[row],
            b2: b2[row],
            err2: err2[row],
            max_abs: max_abs[row],
            n: n[row] as u64,
        };
        let sum = sums.entry((names.value(row).to_owned(), bits[row])).or_default();
        *sum = sum.merge(errors);
    }
}

fn missing(what: &str) -> DataFusionError {
    internal_datafusion_err!("the recipe gives no figures for {what}")
}
