//! The aggregate functions over arrays and streams: one row out, batches in the order they come.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef};
use arrow_quant::sql::functions::aggregate_functions;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use datafusion::{
    arrow::compute::cast,
    common::{DataFusionError, ScalarValue},
    logical_expr::{Accumulator, AggregateUDF, function::AccumulatorArgs},
    physical_expr::{
        PhysicalExpr,
        expressions::{Column as ColumnExpr, Literal},
    },
};
use pyo3::prelude::*;
use pyo3_arrow::ffi::{ArrayIterator, ArrayReader};

use crate::{
    call::{Column, inputs},
    capsule,
    error::{Kind, of_call, of_stream},
    input::Input,
};

/// Calls the aggregate function `name` over all rows of its arguments.
#[pyfunction]
pub fn aggregate(py: Python<'_>, name: &str, arguments: Vec<Bound<'_, PyAny>>) -> PyResult<capsule::Array> {
    let (signature, inputs) = inputs(name, &arguments)?;
    let function = aggregate_functions().into_iter().find(|function| function.name() == name);
    let function = function.ok_or_else(|| Kind::Argument.exception(&format!("there is no aggregate '{name}'")))?;
    let (mut columns, mut readers, mut constants) = (Vec::new(), Vec::new(), Vec::new());
    for (input, argument) in inputs.into_iter().zip(signature) {
        let reader: Box<dyn ArrayReader + Send> = match input {
            Input::Nothing => continue,
            Input::Constant(value) => {
                constants.push(Some(value));
                continue;
            }
            Input::Array(array) => {
                let field: FieldRef = Field::new(argument.name, array.data_type().clone(), true).into();
                Box::new(ArrayIterator::new([Ok(array)], field))
            }
            Input::Stream(stream) => stream,
        };
        columns.push(Column::find(argument, reader.field().data_type().clone())?);
        readers.push(reader);
        constants.push(None);
    }
    if readers.is_empty() {
        return Err(Kind::Argument.exception(&format!("{name}: no argument is an array or a stream")));
    }
    let field = py.detach(|| -> Result<_, Failure> {
        let plan = Plan::new(&function, &columns, constants)?;
        let mut accumulator = plan.accumulator(&function)?;
        while let Some(values) = next(&mut readers)? {
            let values: Vec<_> = columns.iter().zip(&values).map(|(column, values)| column.of(values)).collect();
            plan.update(accumulator.as_mut(), &values)?;
        }
        Ok((accumulator.evaluate()?.to_array()?, plan.returns))
    });
    let (array, field) = field.map_err(|error| match error {
        Failure::Query(error) => of_call(&error),
        Failure::Stream(error) => of_stream(error),
        Failure::Lengths => Kind::Argument.exception(&format!("{name}: the arguments have different numbers of rows")),
    })?;
    Ok(capsule::Array::new(array, field))
}

enum Failure {
    Query(DataFusionError),
    Stream(ArrowError),
    Lengths,
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error)
    }
}

/// The next batch of each, which must be of one length.
fn next(readers: &mut [Box<dyn ArrayReader + Send>]) -> Result<Option<Vec<ArrayRef>>, Failure> {
    let values: Vec<_> = readers
        .iter_mut()
        .map(|reader| reader.next().transpose())
        .collect::<Result<_, _>>()
        .map_err(Failure::Stream)?;
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let values: Option<Vec<ArrayRef>> = values.into_iter().collect();
    match values {
        Some(values) if values.iter().all(|array| array.len() == values[0].len()) => Ok(Some(values)),
        _ => Err(Failure::Lengths),
    }
}

/// The arguments as the function wants them.
struct Plan {
    targets: Vec<DataType>,
    constants: Vec<Option<ScalarValue>>,
    fields: Vec<FieldRef>,
    returns: FieldRef,
}

impl Plan {
    fn new(
        function: &AggregateUDF,
        columns: &[Column],
        constants: Vec<Option<ScalarValue>>,
    ) -> Result<Self, DataFusionError> {
        let mut columns = columns.iter();
        let given: Vec<_> = constants
            .iter()
            .filter_map(|constant| match constant {
                Some(value) => Some(value.data_type()),
                None => columns.next().map(|column| column.data_type.clone()),
            })
            .collect();
        let targets = function.coerce_types(&given)?;
        let constants = constants.into_iter().zip(&targets);
        let constants = constants
            .map(|(value, target)| value.map(|value| value.cast_to(target)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        let field =
            |(i, target): (usize, &DataType)| -> FieldRef { Field::new(format!("c{i}"), target.clone(), true).into() };
        let fields: Vec<_> = targets.iter().enumerate().map(field).collect();
        let returns = Field::new(function.name(), function.return_type(&targets)?, true).into();
        Ok(Self { targets, constants, fields, returns })
    }

    fn accumulator(&self, function: &AggregateUDF) -> Result<Box<dyn Accumulator>, DataFusionError> {
        let schema = Schema::new(self.fields.clone());
        let expression = |(i, constant): (usize, &Option<ScalarValue>)| -> Arc<dyn PhysicalExpr> {
            match constant {
                Some(value) => Arc::new(Literal::new(value.clone())),
                None => Arc::new(ColumnExpr::new(self.fields[i].name(), i)),
            }
        };
        let expressions: Vec<_> = self.constants.iter().enumerate().map(expression).collect();
        function.accumulator(AccumulatorArgs {
            return_field: Arc::clone(&self.returns),
            schema: &schema,
            ignore_nulls: false,
            order_bys: &[],
            is_reversed: false,
            name: function.name(),
            is_distinct: false,
            exprs: &expressions,
            expr_fields: &self.fields,
        })
    }

    /// Adds a batch. One thread adds them all, in their order: sums of floats would differ otherwise.
    fn update(&self, accumulator: &mut dyn Accumulator, columns: &[ArrayRef]) -> Result<(), DataFusionError> {
        let rows = columns.first().map_or(0, Array::len);
        let mut columns = columns.iter();
        let values = self.constants.iter().zip(&self.targets).filter_map(|(constant, target)| match constant {
            Some(value) => Some(value.to_array_of_size(rows)),
            None => columns.next().map(|column| Ok(cast(column, target)?)),
        });
        accumulator.update_batch(&values.collect::<Result<Vec<_>, _>>()?)
    }
}
