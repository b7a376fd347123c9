//! What the functions give: objects with the Arrow PyCapsule protocol, which PyArrow, polars and others take as they are.

use std::sync::{Mutex, PoisonError};

use arrow_array::{Array as _, ArrayRef};
use arrow_schema::{DataType, Field, FieldRef};
use pyo3::{
    IntoPyObjectExt,
    exceptions::PyRuntimeError,
    prelude::*,
    types::{PyCapsule, PyTuple},
};
use pyo3_arrow::ffi::{ArrayIterator, ArrayReader, to_array_pycapsules, to_schema_pycapsule, to_stream_pycapsule};

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

    /// The type, as Arrow writes it.
    #[getter]
    fn r#type(&self) -> String {
        self.field.data_type().to_string()
    }

    /// Bytes that the array takes.
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
}

/// The values as an `Array`; they are not copied.
#[pyfunction]
pub fn as_array(values: &Bound<'_, PyAny>) -> PyResult<Array> {
    match read(values, "values", true)? {
        Input::Array(array) => {
            let field = Field::new("", array.data_type().clone(), true);
            Ok(Array::new(array, field.into()))
        }
        _ => Err(error::Kind::Argument.exception("values must be one Arrow or NumPy array")),
    }
}

/// A type in a few words.
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
    reader: Mutex<Option<Box<dyn ArrayReader + Send>>>,
    field: FieldRef,
}

impl ArrayStream {
    pub fn new(reader: Box<dyn ArrayReader + Send>) -> Self {
        let field = reader.field();
        Self { reader: Mutex::new(Some(reader)), field }
    }

    /// A stream of arrays that are there already.
    pub fn of(arrays: Vec<ArrayRef>, field: FieldRef) -> Self {
        Self::new(Box::new(ArrayIterator::new(arrays.into_iter().map(Ok), field)))
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
        let reader = py.detach(|| self.reader.lock().unwrap_or_else(PoisonError::into_inner).take());
        let reader = reader.ok_or_else(|| PyRuntimeError::new_err("the stream has been read already"))?;
        Ok(to_stream_pycapsule(py, reader, requested_schema)?)
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Array>> {
        let next = py.detach(|| {
            let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
            reader.as_mut().and_then(Iterator::next)
        });
        let next = next.transpose().map_err(error::of_stream)?;
        Ok(next.map(|array| Array::new(array, self.field.clone())))
    }

    fn __repr__(&self) -> String {
        format!("<arrow_quant.ArrayStream of {}>", name(self.field.data_type()))
    }

    /// The type, as Arrow writes it.
    #[getter]
    fn r#type(&self) -> String {
        self.field.data_type().to_string()
    }

    fn to_pyarrow(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let stream = slf.get();
        let mut arrays = Vec::new();
        while let Some(array) = stream.__next__(py)? {
            arrays.push(array.array);
        }
        convert(py, "stream_to_pyarrow", Bound::new(py, Self::of(arrays, stream.field.clone()))?)
    }

    fn to_numpy(slf: Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let table = Self::to_pyarrow(slf.clone())?;
        convert(slf.py(), "chunks_to_numpy", table)
    }
}
