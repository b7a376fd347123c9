//! `Session` and the queries that it plans.

use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arrow_array::{Array, RecordBatch, StructArray, cast::AsArray};
use arrow_quant::sql;
use arrow_schema::Schema;
use bytesize::ByteSize;
use datafusion::{
    catalog::MemTable,
    common::{DataFusionError, ParamValues, ScalarValue, plan_err},
    dataframe::DataFrame,
    logical_expr::LogicalPlan,
};
use pyo3::{
    intern,
    prelude::*,
    types::{PyBytes, PyCapsule, PyDict},
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
    #[pyo3(signature = (threads=None, memory_limit=None))]
    fn new(threads: Option<usize>, memory_limit: Option<&str>) -> PyResult<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.unwrap_or_else(cores);
        if !(1..=4096).contains(&threads) {
            return Err(Kind::Argument.exception(&format!("threads must be 1 to 4096, not {threads}")));
        }
        let limit = memory_limit.map(str::parse::<ByteSize>).transpose();
        let limit = limit.map_err(|error| Kind::Argument.exception(&format!("memory_limit {error}")))?;
        let session = match limit {
            Some(limit) => sql::Session::with_memory_limit(threads, limit.as_u64()),
            None => sql::Session::new(threads),
        };
        Ok(Self { session: session.map_err(|error| of_query(&error))? })
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
        let cancel = Arc::new(AtomicBool::new(false));
        let planned = wait(py, &cancel, async move {
            let plan = bind(session.plan(&query).await?, parameters)?;
            session.execute(plan).await
        })?;
        Ok(Query { frame: planned.map_err(|error| of_query(&error))?, cancel })
    }

    /// Makes the model at `path` a table.
    fn register_model(&self, py: Python<'_>, name: &str, path: PathBuf) -> PyResult<()> {
        let context = self.session.context();
        let replace = || {
            let replaced = context.deregister_table(name)?;
            self.session.register_model(name, &path).inspect_err(|_| {
                // What stood there stays. That the name is free has been seen to.
                replaced.map(|table| context.register_table(name, table));
            })
        };
        py.detach(replace).map_err(|error| of_query(&error))
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
        if let Some(nulls) = arrays.iter().map(|array| array.null_count()).find(|nulls| *nulls > 0) {
            return Err(
                Kind::Argument.exception(&format!("{name}: {nulls} rows of the table are null; a table has none"))
            );
        }
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

/// Returns the value of `$name`: a single value, a list of numbers, or an Arrow or NumPy array of one row.
fn parameter(name: &str, value: &Bound<'_, PyAny>) -> PyResult<ScalarValue> {
    if value.is_none() {
        return Ok(ScalarValue::Null);
    }
    if let Some(value) = constant(value, name)? {
        return Ok(value);
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(ScalarValue::Binary(Some(bytes.as_bytes().to_vec())));
    }
    let is_array = value.hasattr(intern!(value.py(), "__array_interface__"))?;
    if let Ok(numbers) = value.extract::<Vec<i64>>()
        && !is_array
    {
        let numbers: Vec<_> = numbers.into_iter().map(ScalarValue::from).collect();
        return Ok(ScalarValue::List(ScalarValue::new_list(&numbers, &arrow_schema::DataType::Int64, true)));
    }
    if let Ok(numbers) = value.extract::<Vec<f64>>()
        && !is_array
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
    cancel: Arc<AtomicBool>,
}

/// Puts the parameters into a plan.
fn bind(plan: LogicalPlan, parameters: Vec<(String, ScalarValue)>) -> Result<LogicalPlan, DataFusionError> {
    let wanted = plan.get_parameter_names()?;
    let given: HashSet<_> = parameters.iter().map(|(name, _)| format!("${name}")).collect();
    if let Some(name) = wanted.iter().filter(|name| !given.contains(*name)).min() {
        return plan_err!("the query has {name}, for which nothing is given");
    }
    if let Some(name) = given.iter().filter(|name| !wanted.contains(*name)).min() {
        return plan_err!("{name} is given, which the query does not have");
    }
    if parameters.is_empty() {
        return Ok(plan);
    }
    let values = parameters.into_iter().map(|(name, value)| (name, value.into())).collect();
    plan.with_param_values(ParamValues::Map(values))
}

#[pymethods]
impl Query {
    /// Starts the query.
    fn stream(&self, py: Python<'_>) -> PyResult<ArrayStream> {
        let stream = wait(py, &self.cancel, self.frame.clone().execute_stream())?.map_err(|error| of_query(&error))?;
        Ok(ArrayStream::new(Box::new(QueryReader::new(stream, Arc::clone(&self.cancel)))))
    }

    /// Ends every stream of the query, where it next waits.
    fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, table_field(self.frame.schema().as_arrow()).as_ref())?)
    }

    /// Returns the plans, as text.
    fn explain(&self, py: Python<'_>) -> PyResult<String> {
        let plan = py.detach(|| self.frame.clone().into_optimized_plan()).map_err(|error| of_query(&error))?;
        Ok(plan.display_indent().to_string())
    }
}
