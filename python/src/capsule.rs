//! The results of functions: objects with the Arrow PyCapsule protocol, which PyArrow, polars and others take directly.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{Array as _, ArrayRef};
use arrow_quant::sql::error::message;
use arrow_schema::{ArrowError, DataType, Field, FieldRef};
use datafusion::common::DataFusionError;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    types::{PyCapsule, PyTuple},
};
use pyo3_arrow::{
    PyArray,
    ffi::{ArrayIterator, ArrayReader, to_array_pycapsules, to_schema_pycapsule, to_stream_pycapsule},
};

use crate::{
    error,
    input::{Input, read},
};

/// Calls a function of `arrow_quant._convert`.
fn convert<'py>(py: Python<'py>, function: &str, object: impl IntoPyObjectExt<'py>) -> PyResult<Py<PyAny>> {
    let object = object.into_py_any(py)?;
    Ok(py.import("arrow_quant._convert")?.call_method1(function, (object,))?.unbind())
}

/// An Arrow array.
#[pyclass(frozen, module = "arrow_quant")]
pub struct Array {
    array: ArrayRef,
    field: FieldRef,
}

impl Array {
    pub fn new(array: ArrayRef, field: FieldRef) -> Self {
        Self { array, field }
    }
}

#[pymethods]
impl Array {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, self.field.as_ref())?)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        Ok(to_array_pycapsules(py, self.field.clone(), &self.array, requested_schema)?)
    }

    fn __len__(&self) -> usize {
        self.array.len()
    }

    fn __repr__(&self) -> String {
        let rows = if self.array.len() == 1 { "row" } else { "rows" };
        format!("<arrow_quant.Array: {} {rows} of {}>", self.array.len(), name(self.field.data_type()))
    }

    /// Returns the type, as Arrow writes it.
    #[getter]
    fn r#type(&self) -> String {
        self.field.data_type().to_string()
    }

    /// Returns the bytes that the array takes.
    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        let size = self.array.to_data().get_slice_memory_size();
        size.map_err(error::of_stream)
    }

    fn to_pyarrow(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        convert(slf.py(), "array_to_pyarrow", slf.clone())
    }

    fn to_numpy(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        convert(slf.py(), "array_to_numpy", slf.clone())
    }

    fn to_pylist(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        convert(slf.py(), "array_to_pylist", slf.clone())
    }

    /// For `numpy.asarray`.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__(slf: Bound<'_, Self>, dtype: Option<Py<PyAny>>, copy: Option<bool>) -> PyResult<Py<PyAny>> {
        let values = convert(slf.py(), "array_to_numpy", slf.clone())?;
        match (dtype, copy) {
            (None, Some(true)) => values.call_method0(slf.py(), "copy"),
            (None, _) => Ok(values),
            (Some(dtype), _) => values.call_method1(slf.py(), "astype", (dtype,)),
        }
    }
}

/// Returns the values as an `Array`; they are not copied.
#[pyfunction]
pub fn as_array(values: &Bound<'_, PyAny>) -> PyResult<Array> {
    let Input::Array(array) = read(values, "values", true)? else {
        return Err(error::Kind::Argument.exception("values must be one Arrow or NumPy array"));
    };
    // A batch travels as structs that are never null, and its field says so.
    let field = match values.extract::<PyArray>() {
        Ok(given) => Arc::clone(given.field()),
        Err(_) => Field::new("", array.data_type().clone(), true).into(),
    };
    Ok(Array::new(array, field))
}

/// Returns a type in a few words.
fn name(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct(fields) => {
            let names: Vec<_> = fields.iter().map(|field| field.name().as_str()).collect();
            format!("struct<{}>", names.join(", "))
        }
        other => other.to_string(),
    }
}

/// Arrays that are made one at a time, as they are asked for. It can be read once.
#[pyclass(frozen, module = "arrow_quant")]
pub struct ArrayStream {
    state: Mutex<State>,
    field: FieldRef,
}

type Reader = Box<dyn ArrayReader + Send>;

enum State {
    Ready(Reader),
    /// The reader is at work, on some thread.
    Reading,
    Ended,
    /// Another library has it.
    Given,
}

/// A reader for other libraries, which print an error as it stands.
struct Words(Reader);

impl Iterator for Words {
    type Item = Result<ArrayRef, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let words = |error| match error {
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(error) => ArrowError::ExternalError(message(error).into()),
                None => ArrowError::ExternalError(inner),
            },
            error => error,
        };
        self.0.next().map(|next| next.map_err(words))
    }
}

impl ArrayReader for Words {
    fn field(&self) -> FieldRef {
        self.0.field()
    }
}

impl ArrayStream {
    pub fn new(reader: Reader) -> Self {
        let field = reader.field();
        Self { state: Mutex::new(State::Ready(reader)), field }
    }

    /// Returns a stream of arrays that are there already.
    pub fn of(arrays: Vec<ArrayRef>, field: FieldRef) -> Self {
        Self::new(Box::new(ArrayIterator::new(arrays.into_iter().map(Ok), field)))
    }

    /// Takes the reader out, and leaves `state` in its place.
    fn take(&self, state: State) -> PyResult<Reader> {
        let mut held = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let why = match &*held {
            State::Ready(_) => match std::mem::replace(&mut *held, state) {
                State::Ready(reader) => return Ok(reader),
                _ => "the stream is gone",
            },
            State::Reading => "the stream is being read",
            State::Ended => "the stream has been read to its end",
            State::Given => "the stream has been given away",
        };
        Err(error::Kind::Other.exception(why))
    }

    fn put(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// Returns the next array; `None` at the end.
    fn advance(&self, py: Python<'_>) -> PyResult<Option<Array>> {
        let mut reader = self.take(State::Reading)?;
        let (reader, next) = py.detach(move || {
            let next = reader.next();
            (reader, next)
        });
        self.put(if matches!(next, Some(Ok(_))) { State::Ready(reader) } else { State::Ended });
        let next = next.transpose().map_err(error::of_stream)?;
        Ok(next.map(|array| Array::new(array, self.field.clone())))
    }

    /// Reads all that is left.
    fn rest(&self, py: Python<'_>) -> PyResult<Self> {
        let mut arrays = Vec::new();
        while let Some(array) = self.advance(py)? {
            arrays.push(array.array);
            py.check_signals()?;
        }
        Ok(Self::of(arrays, self.field.clone()))
    }
}

#[pymethods]
impl ArrayStream {
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        Ok(to_schema_pycapsule(py, self.field.as_ref())?)
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let reader = Words(self.take(State::Given)?);
        Ok(to_stream_pycapsule(py, Box::new(reader), requested_schema)?)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Array>> {
        if matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Ended) {
            return Ok(None);
        }
        self.advance(py)
    }

    fn __repr__(&self) -> String {
        format!("<arrow_quant.ArrayStream of {}>", name(self.field.data_type()))
    }

    /// Returns the type, as Arrow writes it.
    #[getter]
    fn r#type(&self) -> String {
        self.field.data_type().to_string()
    }

    fn to_pyarrow(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        convert(py, "stream_to_pyarrow", Bound::new(py, slf.get().rest(py)?)?)
    }

    fn to_numpy(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let table = Self::to_pyarrow(slf.clone())?;
        convert(slf.py(), "chunks_to_numpy", table)
    }

    fn to_pylist(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let table = Self::to_pyarrow(slf.clone())?;
        table.call_method0(slf.py(), "to_pylist")
    }
}
