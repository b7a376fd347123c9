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

use crate::{
    call::{Column, Rows, Source, inputs},
    capsule,
    error::{Kind, of_call, of_stream},
    input::Input,
};

/// Calls the aggregate function `name` over all rows of its arguments.
#[pyfunction]
pub fn aggregate(py: Python<'_>, name: &str, arguments: Vec<Bound<'_, PyAny>>) -> PyResult<capsule::Array> {
    let (signature, inputs) = inputs(name, &arguments)?;
    let function = aggregate_functions(None).into_iter().find(|function| function.name() == name);
    let function = function.ok_or_else(|| Kind::Argument.exception(&format!("there is no aggregate '{name}'")))?;
    let (mut columns, mut sources, mut constants) = (Vec::new(), Vec::new(), Vec::new());
    let mut missing = None;
    for (input, argument) in inputs.into_iter().zip(signature) {
        let data_type = input.data_type();
        if let (Some(missing), false) = (missing, matches!(input, Input::Nothing)) {
            let message = format!("{name}: {missing} must be given where {} is", argument.name);
            return Err(Kind::Argument.exception(&message));
        }
        let source = match input {
            Input::Nothing => {
                missing = missing.or(Some(argument.name));
                continue;
            }
            Input::Constant(value) => {
                constants.push(Some(value));
                continue;
            }
            Input::Array(array) => Source::Whole(Some(array)),
            Input::Stream(stream) => Source::Stream(stream),
        };
        columns.push(Column::find(argument, data_type.unwrap_or(DataType::Null))?);
        sources.push(source);
        constants.push(None);
    }
    if sources.is_empty() {
        return Err(Kind::Argument.exception(&format!("{name}: no argument is an array or a stream")));
    }
    let field = py.detach(|| -> Result<_, Failure> {
        let plan = Plan::new(&function, &columns, constants)?;
        let mut accumulator = plan.accumulator(&function)?;
        let mut rows = Rows::new(sources);
        while let Some((_, values)) = rows.advance().map_err(Failure::Stream)? {
            let values = columns.iter().zip(&values).map(|(column, values)| column.of(values));
            plan.update(accumulator.as_mut(), &values.collect::<Result<Vec<_>, _>>()?)?;
            Python::attach(|py| py.check_signals()).map_err(Failure::Interrupted)?;
        }
        Ok((accumulator.evaluate()?.to_array()?, plan.returns))
    });
    let (array, field) = field.map_err(|error| match error {
        Failure::Query(error) => of_call(&error),
        Failure::Stream(error) => of_stream(error),
        Failure::Interrupted(error) => error,
    })?;
    Ok(capsule::Array::new(array, field))
}

enum Failure {
    Query(DataFusionError),
    Stream(ArrowError),
    Interrupted(PyErr),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        Self::Query(error)
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
