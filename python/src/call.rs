//! The scalar functions: array in, array out; stream in, lazy stream out.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray, cast::AsArray};
use arrow_quant::{
    sql::functions::{Argument, Call, Given, signatures},
    types::{quantized::QUANTIZED, weights::WEIGHTS},
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, ScalarValue, exec_err, plan_datafusion_err};
use pyo3::prelude::*;
use pyo3_arrow::ffi::ArrayReader;

use crate::{
    capsule::{Array as PyArray, ArrayStream},
    error::{self, Kind as Exception},
    input::{Input, read},
    runtime::on_all_cores,
};

/// The functions that put their result in a table where the argument was, and the name of its column.
const REPLACES: [(&str, &str); 2] = [("quantize", QUANTIZED), ("dequantize", WEIGHTS)];

/// Reads the arguments of the function `name`.
pub fn inputs(name: &str, given: &[Bound<'_, PyAny>]) -> PyResult<(&'static [Argument], Vec<Input>)> {
    let signatures = signatures();
    let arguments = signatures.into_iter().find_map(|(function, arguments)| (function == name).then_some(arguments));
    let arguments =
        arguments.ok_or_else(|| Exception::Argument.exception(&format!("there is no function '{name}'")))?;
    let inputs = given
        .iter()
        .zip(arguments)
        .map(|(object, argument)| read(object, &format!("{name}: {}", argument.name), argument.kind.takes_rows()))
        .collect::<PyResult<_>>()?;
    Ok((arguments, inputs))
}

/// A column of the inputs: the values themselves, or a column of the table that was given.
pub struct Column {
    pub data_type: DataType,
    /// The position in the table.
    pub index: Option<usize>,
}

impl Column {
    /// Returns the column for `argument` in values of type `given`. A struct that is not itself what the argument
    /// accepts is a table, whose column of the argument's name is meant.
    pub fn find(argument: &Argument, given: DataType) -> PyResult<Self> {
        let DataType::Struct(fields) = &given else { return Ok(Self { data_type: given, index: None }) };
        if argument.kind.accepts_type(&given) {
            return Ok(Self { data_type: given, index: None });
        }
        if let Some((index, field)) = fields.find(argument.name) {
            return Ok(Self { data_type: field.data_type().clone(), index: Some(index) });
        }
        let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
        let message = format!("the batch must have a column '{}'; it has {}", argument.name, names.join(", "));
        Err(Exception::Argument.exception(&message))
    }

    /// Returns the values of the column.
    ///
    /// # Errors
    /// Returns an error if a row of the table is null: a table has no null rows, and the values behind the null are
    /// undefined.
    pub fn of(&self, values: &ArrayRef) -> Result<ArrayRef, DataFusionError> {
        let Some(index) = self.index else { return Ok(Arc::clone(values)) };
        if values.null_count() > 0 {
            return exec_err!("{} rows of the table are null; a table has none", values.null_count());
        }
        Ok(Arc::clone(values.as_struct().column(index)))
    }
}

/// A call that can be run on one batch after another.
struct Running {
    call: Call,
    columns: Vec<Column>,
    /// The name of the column that takes the place of the first argument's, where that stands in a table.
    replaces: Option<&'static str>,
}

impl Running {
    fn field(&self, first: &DataType) -> FieldRef {
        match self.replaces.and(self.table_type(first)) {
            Some(table) => Field::new("", table, false).into(),
            None => self.call.field(),
        }
    }

    fn table_type(&self, first: &DataType) -> Option<DataType> {
        let (DataType::Struct(fields), Some(index), Some(name)) = (first, self.columns.first()?.index, self.replaces)
        else {
            return None;
        };
        let mut fields: Vec<_> = fields.iter().cloned().collect();
        fields[index] = self.call.field().as_ref().clone().with_name(name).into();
        Some(DataType::Struct(fields.into()))
    }

    /// Refuses a table that would have two columns of one name.
    fn check_names(&self, first: &DataType) -> PyResult<()> {
        if let Some(DataType::Struct(fields)) = self.table_type(first)
            && let Some(name) = self.replaces
            && fields.iter().filter(|field| field.name() == name).count() > 1
        {
            return Err(Exception::Argument.exception(&format!("the table has a column '{name}' already")));
        }
        Ok(())
    }

    fn run(&self, values: &[ArrayRef], first_row: usize) -> Result<ArrayRef, DataFusionError> {
        let columns = self.columns.iter().zip(values).map(|(column, values)| column.of(values));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let result = self.call.run(&columns, first_row)?;
        let table = values.first().and_then(|first| Some((first, self.table_type(first.data_type())?)));
        let Some((first, DataType::Struct(fields))) = table else { return Ok(result) };
        let mut columns = first.as_struct().columns().to_vec();
        if let Some(index) = self.columns[0].index {
            columns[index] = result;
        }
        Ok(Arc::new(StructArray::try_new_with_length(fields, columns, None, first.len())?))
    }
}

/// The source of a column's values.
pub enum Source {
    Whole(Option<ArrayRef>),
    Stream(Box<dyn ArrayReader + Send>),
}

/// Columns that are read together, however their batches are cut. Holds no more than one batch of each.
pub struct Rows {
    sources: Vec<Source>,
    /// The rows that have been read of each source and are not used yet.
    rest: Vec<Option<ArrayRef>>,
    /// Rows that have been read.
    row: usize,
}

impl Rows {
    pub fn new(sources: Vec<Source>) -> Self {
        let rest = sources.iter().map(|_| None).collect();
        Self { sources, rest, row: 0 }
    }

    /// Returns the next rows, as many of each column, and the number of the first.
    pub fn advance(&mut self) -> Result<Option<(usize, Vec<ArrayRef>)>, ArrowError> {
        for (source, rest) in self.sources.iter_mut().zip(&mut self.rest) {
            while rest.as_ref().is_none_or(|rest| rest.is_empty()) {
                *rest = match source {
                    Source::Whole(array) => array.take(),
                    Source::Stream(stream) => stream.next().transpose()?,
                };
                if rest.is_none() {
                    break;
                }
            }
        }
        let lengths: Vec<_> = self.rest.iter().map(|rest| rest.as_ref().map_or(0, |rest| rest.len())).collect();
        let rows = lengths.iter().copied().min().unwrap_or(0);
        if rows == 0 {
            if lengths.iter().any(|length| *length > 0) {
                let error =
                    plan_datafusion_err!("the arguments have different numbers of rows: one ends after {}", self.row);
                return Err(ArrowError::ExternalError(Box::new(error)));
            }
            return Ok(None);
        }
        let mut values = Vec::new();
        for rest in &mut self.rest {
            let Some(array) = rest.take() else { continue };
            if array.len() > rows {
                *rest = Some(array.slice(rows, array.len() - rows));
            }
            values.push(array.slice(0, rows));
        }
        let first = self.row;
        self.row += rows;
        Ok(Some((first, values)))
    }
}

/// The results of a call on streams, batch by batch.
struct Results {
    running: Running,
    rows: Rows,
    field: FieldRef,
    done: bool,
}

impl Results {
    fn advance(&mut self) -> Result<Option<ArrayRef>, ArrowError> {
        let Some((first_row, values)) = self.rows.advance()? else { return Ok(None) };
        let result = on_all_cores(|| self.running.run(&values, first_row));
        Ok(Some(result.map_err(|error| ArrowError::ExternalError(Box::new(error)))?))
    }
}

impl Iterator for Results {
    type Item = Result<ArrayRef, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl ArrayReader for Results {
    fn field(&self) -> FieldRef {
        Arc::clone(&self.field)
    }
}

/// Calls the scalar function `name`. The interpreter's lock is released while it runs.
#[pyfunction]
pub fn call(py: Python<'_>, name: &str, arguments: Vec<Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    let (signature, inputs) = inputs(name, &arguments)?;
    let replaces = REPLACES.into_iter().find_map(|(function, result)| (function == name).then_some(result));
    let many = inputs.iter().any(|input| match input {
        Input::Array(array) => array.len() != 1,
        Input::Stream(_) => true,
        Input::Nothing | Input::Constant(_) => false,
    });
    let (mut given, mut sources, mut columns) = (Vec::new(), Vec::new(), Vec::new());
    for (input, argument) in inputs.into_iter().zip(signature) {
        let column = input.data_type().map(|data_type| Column::find(argument, data_type)).transpose()?;
        let (source, column) = match (input, column) {
            (Input::Constant(value), _) => {
                given.push(Given::Constant(value));
                continue;
            }
            // An array of one row beside longer ones, or beside a stream, stands for every row.
            (Input::Array(array), Some(column)) if many && array.len() == 1 => {
                let value = column.of(&array).and_then(|array| ScalarValue::try_from_array(&array, 0));
                given.push(Given::Constant(value.map_err(|error| error::of_call(&error))?));
                continue;
            }
            (Input::Array(array), Some(column)) => (Source::Whole(Some(array)), column),
            (Input::Stream(stream), Some(column)) => (Source::Stream(stream), column),
            (Input::Nothing | Input::Array(_) | Input::Stream(_), _) => {
                given.push(Given::Nothing);
                continue;
            }
        };
        given.push(Given::Column(column.data_type.clone()));
        columns.push(column);
        sources.push(source);
    }
    let call = Call::new(name, &given).map_err(|error| error::of_call(&error))?;
    let running = Running { call, columns, replaces };
    let lazy = sources.iter().any(|source| matches!(source, Source::Stream(_)));
    let first = match &sources[..] {
        [Source::Whole(Some(array)), ..] => array.data_type().clone(),
        [Source::Stream(stream), ..] => stream.field().data_type().clone(),
        _ => DataType::Null,
    };
    running.check_names(&first)?;
    let field = running.field(&first);
    if lazy {
        let results = Results { running, rows: Rows::new(sources), field, done: false };
        return Ok(Py::new(py, ArrayStream::new(Box::new(results)))?.into_any());
    }
    let arrays = sources.into_iter().filter_map(|source| match source {
        Source::Whole(array) => array,
        Source::Stream(_) => None,
    });
    let arrays: Vec<_> = arrays.collect();
    let result = py.detach(move || on_all_cores(|| running.run(&arrays, 0)));
    let result = result.map_err(|error| error::of_call(&error))?;
    Ok(Py::new(py, PyArray::new(result, field))?.into_any())
}
