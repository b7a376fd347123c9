//! `choices.parquet` of a saved plan: how each tensor is to be quantized, for people to read and to edit.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock},
};

use arrow_array::{
    Array, BooleanArray, Int64Array, RecordBatch, StringViewArray,
    cast::AsArray,
    types::{Float64Type, Int64Type},
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::{
    bit_allocation::{
        entropy::Entropy,
        entropy_choices::{entropy_choices_batch, entropy_choices_schema},
    },
    choices_table::option_fields,
    formats,
    selection::Choice,
    spec::Spec,
};
use crate::{
    model::{Model, tensor::Tensor},
    storage::{error::IoError, parquet_table},
    types::{Bits, Coding, Method, OptionsError, QuantizeOptions},
};

/// The type of a tensor in GGUF, `ComfyUI` or MLX.
const TYPE: &str = "type";
const NOTE: &str = "note";

/// Returns the schema: `name`; `bits`, `group_size`, `method` and `symmetric`; `type`, which GGUF, `ComfyUI` and MLX have instead of those four;
/// and `note`. A tensor without bits and without a type is copied unchanged.
pub fn saved_choices_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = option_fields(true);
        fields.extend([TYPE, NOTE].map(|name| Field::new(name, DataType::Utf8View, true)));
        Arc::new(Schema::new(fields))
    });
    Arc::clone(&SCHEMA)
}

/// Returns the choices as the table of [`saved_choices_schema`], of entropy-coded weights as that of [`entropy_choices_schema`], one
/// row per tensor of the model.
///
/// # Errors
/// Returns an error if Arrow refuses to build the batch.
pub fn saved_choices_batch(model: &Model, choices: &[Choice], spec: &Spec) -> Result<RecordBatch, IoError> {
    if spec.is_entropy() {
        return entropy_choices_batch(model, choices);
    }
    // A GGUF type says all that the options would.
    let options = || choices.iter().map(|choice| choice.options.filter(|_| choice.kind.is_none()));
    let number = |number: fn(QuantizeOptions) -> i64| options().map(|one| one.map(number)).collect::<Int64Array>();
    let types = choices.iter().map(|choice| choice.kind.map(|kind| kind.to_string()));
    let notes = choices.iter().map(|choice| Some(choice.note.as_str()).filter(|note| !note.is_empty()));
    let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(StringViewArray::from_iter_values(names)),
        Arc::new(number(|options| i64::from(options.bits.get()))),
        Arc::new(number(|options| i64::from(options.group_size()))),
        Arc::new(options().map(|one| one.map(|options| options.method.name())).collect::<StringViewArray>()),
        Arc::new(options().map(|one| one.map(|options| options.symmetric)).collect::<BooleanArray>()),
        Arc::new(types.collect::<StringViewArray>()),
        Arc::new(notes.collect::<StringViewArray>()),
    ];
    RecordBatch::try_new(saved_choices_schema(), columns).map_err(IoError::arrow(model.folder()))
}

/// Reads the choices for the tensors of a model from the Parquet file at `path`. Rows may come in any order.
///
/// # Errors
/// Returns an error that names the row if the file cannot be read or lacks a column, a tensor of the model has no row or
/// two, a name is that of no tensor, an option is not accepted, or a tensor cannot be quantized.
pub fn read_choices(path: &Path, model: &Model, spec: &Spec) -> Result<Vec<Choice>, IoError> {
    let schema = if spec.is_entropy() { entropy_choices_schema() } else { saved_choices_schema() };
    let numbers: HashMap<&str, usize> =
        model.tensors().iter().enumerate().map(|(number, tensor)| (tensor.name.as_str(), number)).collect();
    let mut choices: Vec<Option<Choice>> = vec![None; model.tensors().len()];
    let mut first = 0;
    for batch in parquet_table::open(path, &schema, "choices", 1024)? {
        let batch = batch.map_err(IoError::arrow(path))?;
        let columns = schema.fields().iter().map(|field| parquet_table::column(path, &batch, &schema, field.name()));
        let columns = Columns(columns.collect::<Result<_, _>>()?);
        for row in 0..batch.num_rows() {
            let refuse = |problem: String| IoError::file(path, format!("row {}: {problem}", first + row));
            let name = columns.text(0, row).ok_or_else(|| refuse("name is null".to_owned()))?;
            let number = *numbers.get(name).ok_or_else(|| refuse(format!("'{name}' is no tensor of the model")))?;
            let choice = columns.choice(row, spec, &model.tensors()[number]);
            let choice = choice.map_err(|problem| refuse(format!("'{name}': {problem}")))?;
            if choices[number].replace(choice).is_some() {
                return Err(refuse(format!("'{name}' has a row already")));
            }
        }
        first += batch.num_rows();
    }
    let named = model.tensors().iter().zip(choices);
    named
        .map(|(tensor, choice)| choice.ok_or_else(|| IoError::file(path, format!("has no row for '{}'", tensor.name))))
        .collect()
}

/// Returns the choice unless it quantizes a tensor that cannot be.
fn quantizable(choice: Choice, tensor: &Tensor) -> Result<Choice, String> {
    match super::selection::unquantizable(tensor).filter(|_| choice.options.is_some()) {
        Some(reason) => Err(format!("cannot be quantized ({reason}); its bits and its {TYPE} must be null")),
        None => Ok(choice),
    }
}

/// The columns of the schema, in its order and of its types.
struct Columns(Vec<Arc<dyn Array>>);

impl Columns {
    fn text(&self, column: usize, row: usize) -> Option<&str> {
        let column = self.0[column].as_string_view();
        column.is_valid(row).then(|| column.value(row))
    }

    fn number(&self, column: usize, row: usize) -> Option<i64> {
        let column = self.0[column].as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    }

    fn choice(&self, row: usize, spec: &Spec, tensor: &Tensor) -> Result<Choice, String> {
        let note = self.text(if spec.is_entropy() { 5 } else { 6 }, row).unwrap_or_default().to_owned();
        let copied = Choice { note, ..Choice::default() };
        if spec.is_entropy() {
            let entropy = self.entropy(row)?;
            let options = entropy.map(|_| spec.row_options());
            return quantizable(Choice { options, entropy, ..copied }, tensor);
        }
        let format = formats::of(spec).map_err(|error| error.to_string())?;
        let has_types = format.has_types();
        let (bits, kind) = (self.number(1, row), self.text(5, row));
        let choice = match (bits, kind) {
            (None, None) => return Ok(copied),
            (Some(_), _) if has_types => {
                return Err(format!("bits must be null in a plan for {}: {TYPE} says all", spec.format));
            }
            (_, Some(_)) if !has_types => return Err(format!("{TYPE} must be null in a plan for {}", spec.format)),
            (None, Some(kind)) => {
                let mut choice = Choice { options: Some(spec.row_options()), ..copied };
                format.set_type(&mut choice, kind)?;
                choice
            }
            (Some(bits), _) => Choice { options: Some(self.options(row, bits)?), ..copied },
        };
        quantizable(choice, tensor)
    }

    /// Reads the columns of [`entropy_choices_schema`].
    fn entropy(&self, row: usize) -> Result<Option<Entropy>, String> {
        let number = |column: usize| {
            let column = self.0[column].as_primitive::<Float64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        let (bits, step) = match (number(1), number(4)) {
            (None, None) => return Ok(None),
            (bits, step) => (bits.ok_or("bits is null where a step is given")?, step),
        };
        if let Some(method) = self.text(3, row).filter(|method| *method != Coding::ENTROPY) {
            return Err(format!(
                "method must be '{}' in a plan of entropy-coded weights, not '{method}'",
                Coding::ENTROPY
            ));
        }
        match step.map(|step| step as f32) {
            Some(step) if !(step.is_finite() && step > 0.0) => {
                Err(format!("step must be a number above 0, not {step}"))
            }
            None if !(1.0..=8.0).contains(&bits) => {
                Err(format!("bits must be 1 to 8 where there is no step, not {bits}"))
            }
            _ if !(0.0..=64.0).contains(&bits) => Err(format!("bits must be what its codes take, not {bits}")),
            step => Ok(Some(Entropy { bits, step })),
        }
    }

    fn options(&self, row: usize, bits: i64) -> Result<QuantizeOptions, String> {
        let missing = |name: &str| format!("{name} is null where bits are given");
        let bits = Bits::try_from(bits).map_err(|error| error.to_string())?;
        let group_size = self.number(2, row).ok_or_else(|| missing("group_size"))?;
        let method = self.text(3, row).ok_or_else(|| missing("method"))?;
        let method: Method = method.parse().map_err(|error: OptionsError| error.to_string())?;
        let symmetric = self.0[4].as_boolean();
        let symmetric = symmetric.is_valid(row).then(|| symmetric.value(row)).ok_or_else(|| missing("symmetric"))?;
        let options = QuantizeOptions::new(bits).with_method(method).with_symmetric(symmetric);
        options.with_group_size(group_size).map_err(|error| error.to_string())
    }
}
