//! The arguments from Python: an Arrow array or stream, a NumPy array, or a number, a string, a boolean.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, FixedSizeListArray, ListArray, make_array};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use pyo3::{
    exceptions::PyMemoryError,
    intern,
    prelude::*,
    types::{PyBool, PyDict, PyFloat, PyInt, PyString},
};
use pyo3_arrow::{PyArray, PyArrayReader, ffi::ArrayReader};

use crate::{error::Kind, memory};

/// The value given for an argument.
pub enum Input {
    Nothing,
    Constant(ScalarValue),
    Array(ArrayRef),
    Stream(Box<dyn ArrayReader + Send>),
}

impl Input {
    /// Returns the type of the values, where they are a column.
    pub fn data_type(&self) -> Option<DataType> {
        match self {
            Self::Array(array) => Some(array.data_type().clone()),
            Self::Stream(stream) => Some(stream.field().data_type().clone()),
            Self::Nothing | Self::Constant(_) => None,
        }
    }
}

/// Reads the argument `name`. `rows` says that it takes lists: a NumPy array of one dimension is then one row.
///
/// # Errors
/// Returns an error if the object is of a kind that is not accepted.
pub fn read(object: &Bound<'_, PyAny>, name: &str, rows: bool) -> PyResult<Input> {
    let py = object.py();
    if object.is_none() {
        return Ok(Input::Nothing);
    }
    if let Some(constant) = constant(object, name)? {
        return Ok(Input::Constant(constant));
    }
    let refused = |error: PyErr| Kind::Argument.exception(&format!("{name}: {}", error.value(py)));
    if object.hasattr(intern!(py, "__arrow_c_array__"))? {
        let array: PyArray = object.extract().map_err(refused)?;
        return Ok(Input::Array(array.into_inner().0));
    }
    if object.hasattr(intern!(py, "__arrow_c_stream__"))? {
        let stream: PyArrayReader = object.extract().map_err(refused)?;
        return Ok(Input::Stream(stream.into_reader()?));
    }
    if object.hasattr(intern!(py, "__array_interface__"))? {
        let named = |error: PyErr| {
            if error.is_instance_of::<PyMemoryError>(py) || Kind::Other.is_kind_of(py, &error) {
                return error;
            }
            Kind::Argument.exception(&format!("{name} is no array that NumPy would make: {}", error.value(py)))
        };
        return Ok(Input::Array(numpy(object, name, rows).map_err(named)?));
    }
    // NumPy's own numbers are neither Python's nor arrays of one dimension and more.
    let class = object.get_type().fully_qualified_name()?;
    Err(Kind::Argument.exception(&format!(
        "{name} must be an Arrow array, a stream of them, a NumPy array or a single value, not {class}"
    )))
}

/// Returns a single value, or `None` where the object is not one.
pub fn constant(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<ScalarValue>> {
    let py = object.py();
    let number = if object.hasattr(intern!(py, "__array_interface__"))? {
        // One of NumPy's own numbers has no dimensions; `item` gives Python's.
        match object.getattr(intern!(py, "ndim")).and_then(|dimensions| dimensions.extract::<usize>()) {
            Ok(0) => object.call_method0(intern!(py, "item"))?,
            _ => return Ok(None),
        }
    } else {
        object.clone()
    };
    Ok(if let Ok(value) = number.cast::<PyBool>() {
        Some(value.is_true().into())
    } else if number.is_instance_of::<PyInt>() {
        let value = number.extract::<i64>();
        let value = value.map_err(|_| Kind::Argument.exception(&format!("{name} must fit 64 bits, not {number}")))?;
        Some(value.into())
    } else if let Ok(value) = number.cast::<PyFloat>() {
        Some(value.value().into())
    } else if let Ok(value) = number.cast::<PyString>() {
        Some(value.to_str()?.into())
    } else {
        None
    })
}

/// Returns an array of `ml_dtypes.bfloat16` as one of `float32`, which is a copy.
fn widened<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let halves = object.call_method1("view", ("uint16",))?;
    let words = halves.call_method1("astype", ("uint32",))?;
    words.call_method1("__lshift__", (16,))?.call_method1("view", ("float32",))
}

/// Returns a NumPy array as Arrow's: two dimensions are rows, one is a row or, for an argument that takes no lists, a
/// column.
fn numpy(object: &Bound<'_, PyAny>, name: &str, rows: bool) -> PyResult<ArrayRef> {
    let py = object.py();
    if object.hasattr(intern!(py, "mask"))? && object.hasattr(intern!(py, "fill_value"))? {
        let message = format!("{name} has a mask, which NumPy's interface leaves out: fill it, or give an Arrow array");
        return Err(Kind::Argument.exception(&message));
    }
    let interface = object.getattr(intern!(py, "__array_interface__"))?.cast_into::<PyDict>()?;
    let field =
        |key: &str| interface.get_item(key)?.ok_or_else(|| Kind::Argument.exception(&format!("{name}: no {key}")));
    let text: String = field("typestr")?.extract()?;
    let refused = || {
        let dtype = object.getattr("dtype").map_or_else(|_| text.clone(), |dtype| dtype.to_string());
        Kind::Argument.exception(&format!("{name} must be a list of numbers, not a NumPy array of {dtype}"))
    };
    if let Ok(dtype) = object.getattr("dtype")
        && dtype.to_string() == "bfloat16"
    {
        return numpy(&widened(object)?, name, rows);
    }
    let native = if cfg!(target_endian = "little") { '<' } else { '>' };
    let element = match text.strip_prefix([native, '|', '=']) {
        Some("f2") => DataType::Float16,
        Some("f4") => DataType::Float32,
        Some("f8") => DataType::Float64,
        Some("i1") => DataType::Int8,
        Some("i2") => DataType::Int16,
        Some("i4") => DataType::Int32,
        Some("i8") => DataType::Int64,
        Some("u1") => DataType::UInt8,
        Some("u2") => DataType::UInt16,
        Some("u4") => DataType::UInt32,
        Some("u8") => DataType::UInt64,
        _ => return Err(refused()),
    };
    let shape: Vec<usize> = field("shape")?.extract()?;
    let width = element.primitive_width().unwrap_or(1);
    let (address, _): (usize, bool) = field("data")?.extract()?;
    let strided = interface.get_item("strides")?.is_some_and(|strides| !strides.is_none());
    if strided || address % width != 0 {
        // Rows that are not one after the other are gathered; this is the one place that copies.
        let whole = py.import("numpy")?.call_method1("require", (object, py.None(), ["C", "A"]))?;
        return numpy(&whole, name, rows);
    }
    let elements = shape.iter().try_fold(1, |product: usize, length| product.checked_mul(*length));
    let bytes = elements.and_then(|elements| elements.checked_mul(width));
    let (Some(elements), Some(bytes)) = (elements, bytes) else {
        return Err(Kind::Argument.exception(&format!("{name}: the shape {shape:?} passes what memory holds")));
    };
    // SAFETY: NumPy says that the memory at the address holds an array of this shape, without gaps; the buffer keeps the
    // array alive.
    let buffer = unsafe { memory::borrow(address, bytes, object.clone().unbind()) };
    let values = arrow_data::ArrayData::builder(element.clone()).len(elements).add_buffer(buffer).build();
    let values = make_array(values.map_err(|error| Kind::Argument.exception(&format!("{name}: {error}")))?);
    let (count, length) = match shape[..] {
        [length] if rows => (1, length),
        [_] => return Ok(values),
        [count, length] => (count, length),
        _ => {
            let message = format!("{name} must have one or two dimensions, not {}", shape.len());
            return Err(Kind::Argument.exception(&message));
        }
    };
    let length = i32::try_from(length).map_err(|_| {
        Kind::Argument.exception(&format!("{name}: a row has {length} elements, more than {}", i32::MAX))
    })?;
    let field: FieldRef = Arc::new(Field::new_list_field(element, false));
    let refused = |error| Kind::Argument.exception(&format!("{name}: {error}"));
    if length == 0 {
        // Casts take lists of a fixed size of 0 for none.
        let lists = ListArray::try_new(field, OffsetBuffer::new_zeroed(count), values, None);
        return Ok(Arc::new(lists.map_err(refused)?));
    }
    Ok(Arc::new(FixedSizeListArray::try_new(field, length, values, None).map_err(refused)?))
}
