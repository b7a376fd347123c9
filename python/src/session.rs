//! `Session` and the queries that it plans.

use std::{path::PathBuf, sync::Arc};

use arrow_array::{RecordBatch, StructArray, cast::AsArray};
use arrow_quant::sql;
use arrow_schema::Schema;
use datafusion::{
    catalog::MemTable,
    common::{ParamValues, ScalarValue},
    dataframe::DataFrame,
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyCapsule, PyDict},
};
use pyo3_arrow::ffi::to_schema_pycapsule;

use crate::{
    capsule::ArrayStream,
    error::{Kind, of_query, of_stream},
    input::{Input, constant, read},
    reader::{QueryReader, table_field},
    runtime::wait,
};

/// A SQL session over models and Arrow tables. It may be used from several threads at once.
#[pyclass(frozen, module = "arrow_quant._lib")]
pub struct Session {
    session: sql::Session,
}

#[pymethods]
impl Session {
    #[new]
    #[pyo3(signature = (threads=None))]
    fn new(threads: Option<usize>) -> PyResult<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores);
        if !(1..=4096).contains(&threads) {
            return Err(Kind::Argument.exception(&format!("threads must be 1 to 4096, not {threads}")));
        }
        Ok(Self { session: sql::Session::new(threads).map_err(|error| of_query(&error))? })
    }

    /// Plans a query; what gives no table, as CREATE and SET, is done at once.
    fn sql(&self, py: Python<'_>, query: &str, parameters: &Bound<'_, PyDict>) -> PyResult<Query> {
        let parameters = parameters
            .iter()
            .map(|(name, value)| {
                let name: String = name.extract()?;
                let value = parameter(&name, &value)?;
                Ok((name, value))
            })
            .collect::<PyResult<Vec<_>>>()?;
        let (session, query) = (self.session.clone(), query.to_owned());
        let frame = wait(py, async move { session.sql(&query).await })?.map_err(|error| of_query(&error))?;
        let frame = if parameters.is_empty() {
            frame
        } else {
            let values = parameters.into_iter().map(|(name, value)| (name, value.into())).collect();
            frame.with_param_values(ParamValues::Map(values)).map_err(|error| of_query(&error))?
        };
        Ok(Query { frame })
    }

    /// Makes the model at `path` a table.
    fn register_model(&self, py: Python<'_>, name: &str, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.session.register_model(name, &path)).map_err(|error| of_query(&error))
    }

    /// Makes an Arrow table, batch or stream a table; its batches are kept, not copied.
    fn register_arrow(&self, py: Python<'_>, name: &str, table: &Bound<'_, PyAny>) -> PyResult<()> {
        let (field, arrays) = match read(table, name, true)? {
            Input::Array(array) => (table_type(array.data_type()), vec![array]),
            Input::Stream(mut stream) => {
                let field = table_type(stream.field().data_type());
                let arrays = py.detach(|| stream.by_ref().collect::<Result<Vec<_>, _>>()).map_err(of_stream)?;
                (field, arrays)
            }
            Input::Nothing | Input::Constant(_) => (None, Vec::new()),
        };
        let Some(schema) = field else {
            let class = table.get_type().fully_qualified_name()?;
            return Err(Kind::Argument.exception(&format!("{name} must be a path or an Arrow table, not {class}")));
        };
        let batches = arrays.iter().map(|array| batch(array.as_struct(), &schema)).collect::<Result<_, _>>();
        let batches = batches.map_err(of_stream)?;
        let table = MemTable::try_new(schema, vec![batches]).map_err(|error| of_query(&error))?;
        let context = self.session.context();
        // A name that is taken is taken over: notebooks run a cell twice.
        context.deregister_table(name).map_err(|error| of_query(&error))?;
        context.register_table(name, Arc::new(table)).map_err(|error| of_query(&error))?;
        Ok(())
    }
}

fn table_type(data_type: &arrow_schema::DataType) -> Option<Arc<Schema>> {
    match data_type {
        arrow_schema::DataType::Struct(fields) => Some(Arc::new(Schema::new(fields.clone()))),
        _ => None,
    }
}

fn batch(array: &StructArray, schema: &Arc<Schema>) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(arrow_array::Array::len(array)));
    RecordBatch::try_new_with_options(Arc::clone(schema), array.columns().to_vec(), &options)
}

/// The value of `$name`: a single value, a list of numbers, or an Arrow or NumPy array of one row.
fn parameter(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if let Some(value) = constant(value, name)? {
        return Ok(value);
    }
    if let Ok(numbers) = value.extract::<Vec<f64>>()
        && !value.hasattr(intern!(value.py(), "__array_interface__"))?
    {
        let numbers: Vec<_> = numbers.into_iter().map(ScalarValue::from).collect();
        return Ok(ScalarValue::List(ScalarValue::new_list(&numbers, &arrow_schema::DataType::Float64, true)));
    }
    match read(value, name, true)? {
        Input::Array(array) if arrow_array::Array::len(&array) == 1 => {
            ScalarValue::try_from_array(&array, 0).map_err(|error| of_query(&error))
        }
        _ => Err(Kind::Argument.exception(&format!("${name} must be one value or one row"))),
    }
}

/// A query that has been planned. It runs when its rows are read, and again each time.
#[pyclass(frozen, module = "arrow_quant._lib")]
pub struct Query {
    frame: DataFrame,
}

#[pymethods]
impl Query {
    /// Starts the query.
    fn stream(&self, py: Python<'_>) -> PyResult<ArrayStream> {
        let stream = wait(py, self.frame.clone().execute_stream())?.map_err(|error| of_query(&error))?;
        Ok(ArrayStream::new(Box::new(QueryReader::new(stream))))
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, table_field(self.frame.schema().as_arrow()).as_ref())?)
    }

    /// The plans, as text.
    fn explain(&self) -> PyResult<String> {
        let plan = self.frame.clone().into_optimized_plan().map_err(|error| of_query(&error))?;
        Ok(plan.display_indent().to_string())
    }
}
