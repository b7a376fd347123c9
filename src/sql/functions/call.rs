//! A scalar function called outside of a query: arrays in, array out, on all threads.

use std::ops::Range;

use arrow::compute::cast;
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_datafusion_err, plan_err};

use super::{
    SCALARS,
    argument::Argument,
    coerce::{check_constants, coerce},
    error::FunctionError,
    scalar::ScalarFunction,
};
use crate::compute::{ComputeError, by_blocks, memory_size};

/// The value given for an argument.
#[derive(Debug, Clone)]
pub enum Given {
    /// Nothing: the argument is optional.
    Nothing,
    /// One value for all rows.
    Constant(ScalarValue),
    /// A column of this type; its values come with [`Call::run`].
    Column(DataType),
}

/// A call whose arguments have been checked. It can be run on many batches.
pub struct Call {
    function: ScalarFunction,
    arguments: Vec<Value>,
}

enum Value {
    Constant(ScalarValue),
    /// The type that the column is cast to.
    Column(DataType),
}

impl Call {
    /// Checks a call of the function `name`.
    ///
    /// # Errors
    /// Returns an error if there is no such function, if an argument is missing, too many or of a type that is not
    /// accepted, if a constant lies outside what is accepted, and if no argument is a column.
    pub fn new(name: &str, given: &[Given]) -> Result<Self> {
        let function = SCALARS.iter().find(|function| function.name == name);
        let function = *function.ok_or_else(|| plan_datafusion_err!("there is no function '{name}'"))?;
        let given = without_gaps(name, function.arguments, given)?;
        let types: Vec<_> = given
            .iter()
            .map(|given| match given {
                Given::Nothing => DataType::Null,
                Given::Constant(value) => value.data_type(),
                Given::Column(data_type) => data_type.clone(),
            })
            .collect();
        let targets = coerce(name, function.arguments, &types)?;
        let arguments = given.into_iter().zip(targets);
        let arguments = arguments
            .map(|(given, target)| {
                Ok(match given {
                    Given::Nothing => Value::Constant(ScalarValue::try_from(&target)?),
                    Given::Constant(value) => Value::Constant(value.cast_to(&target)?),
                    Given::Column(_) => Value::Column(target),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let constants: Vec<_> = arguments
            .iter()
            .map(|argument| match argument {
                Value::Constant(value) => Some(value),
                Value::Column(_) => None,
            })
            .collect();
        check_constants(name, function.arguments, &constants)?;
        if constants.iter().all(Option::is_some) {
            return plan_err!("{name}: no argument is an array or a stream");
        }
        Ok(Self { function, arguments })
    }

    /// Returns the field of the result.
    pub fn field(&self) -> FieldRef {
        Field::new(self.function.name, (self.function.returns)(), true).into()
    }

    /// Calls the function on the columns, in the order of their arguments. Rows are shared out to rayon's threads; the
    /// bits do not depend on how many there are. Errors count rows from `first_row`.
    ///
    /// # Errors
    /// Returns an error if the columns differ in length, and the errors of the function.
    pub fn run(&self, columns: &[ArrayRef], first_row: usize) -> Result<ArrayRef> {
        let name = self.function.name;
        let rows = columns.first().map_or(0, Array::len);
        if let Some(other) = columns.iter().find(|column| column.len() != rows) {
            return plan_err!("{name}: an argument has {} rows where another has {rows}", other.len());
        }
        let bytes = |rows: Range<usize>| columns.iter().map(|column| memory_size(column, rows.clone())).sum();
        let block = |rows: Range<usize>| {
            let mut columns = columns.iter();
            let arrays = self.arguments.iter().map(|argument| match argument {
                Value::Constant(value) => {
                    value.to_array_of_size(rows.len()).map_err(|error| ComputeError::InvalidArgument(error.to_string()))
                }
                Value::Column(target) => {
                    let column =
                        columns.next().ok_or_else(|| ComputeError::InvalidArgument("a column is missing".into()))?;
                    let column = column.slice(rows.start, rows.len());
                    Ok(if column.data_type() == target { column } else { cast(&column, target)? })
                }
            });
            (self.function.call)(&arrays.collect::<Result<Vec<_>, ComputeError>>()?)
        };
        by_blocks(rows, bytes, block).map_err(|error| FunctionError::of(name)(error.offset(first_row)))
    }
}

/// Returns the given arguments without the trailing ones left out.
///
/// # Errors
/// Returns an error if one is left out before one that is given, and is not optional.
fn without_gaps(function: &str, arguments: &[Argument], given: &[Given]) -> Result<Vec<Given>> {
    let end = given.iter().rposition(|given| !matches!(given, Given::Nothing)).map_or(0, |last| last + 1);
    let given = given[..end].to_vec();
    let missing = |(argument, given): &(&Argument, &Given)| matches!(given, Given::Nothing) && !argument.optional;
    if let Some((argument, _)) = arguments.iter().zip(&given).find(missing) {
        let next = arguments.get(end - 1).map_or("the next", |argument| argument.name);
        return plan_err!("{function}: {} must be given where {next} is", argument.name);
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ListArray, types::Float32Type};

    use super::*;
    use crate::{
        compute::quantize,
        types::{Bits, QuantizeOptions, weights::weights_type},
    };

    fn rows() -> ArrayRef {
        let row = (0..100).map(|i| Some(0.5 - i as f32 / 77.0)).collect::<Vec<_>>();
        Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row), None]))
    }

    fn column() -> Given {
        Given::Column(weights_type())
    }

    #[test]
    fn what_is_left_out_before_what_is_given_has_its_default() {
        let given =
            [column(), Given::Constant(8i64.into()), Given::Nothing, Given::Nothing, Given::Constant(true.into())];
        let got = Call::new("quantize", &given).unwrap().run(&[rows()], 0).unwrap();
        let options = QuantizeOptions::new(Bits::Eight).with_symmetric(true);
        assert_eq!(&got, &quantize(&rows(), &options.into()).unwrap());
        let given =
            [column(), Given::Column(DataType::Int64), Given::Nothing, Given::Nothing, Given::Constant(true.into())];
        let bits: ArrayRef = Arc::new(arrow_array::Int64Array::from(vec![8, 8]));
        assert_eq!(&Call::new("quantize", &given).unwrap().run(&[rows(), bits], 0).unwrap(), &got);
        let given = [column(), Given::Nothing, Given::Constant(32i64.into())];
        let error = Call::new("quantize", &given).err().unwrap().strip_backtrace();
        assert!(error.ends_with("quantize: bits must be given where group_size is"), "{error}");
    }

    #[test]
    fn errors_are_those_of_a_query() {
        let message = |name: &str, given: &[Given]| Call::new(name, given).err().unwrap().strip_backtrace();
        let bits = message("quantize", &[column(), Given::Constant(5i64.into())]);
        assert_eq!(bits, "Error during planning: quantize: bits must be 2, 3, 4 or 8, not 5");
        let strings = message("quantize", &[Given::Column(DataType::Utf8), Given::Constant(4i64.into())]);
        assert_eq!(strings, "Error during planning: quantize: weights must be a list of numbers, not Utf8");
        assert!(message("quantise", &[]).ends_with("there is no function 'quantise'"));
        let call = Call::new("sqnr", &[column(), column()]).unwrap();
        let error = call.run(&[rows(), rows().slice(0, 1)], 0).unwrap_err().strip_backtrace();
        assert!(error.ends_with("sqnr: an argument has 1 rows where another has 2"), "{error}");
    }
}
