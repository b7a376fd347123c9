//! The columns of rows that are spooled: their types, and the element that each row is stored as.

use std::sync::Arc;

use arrow::compute::cast;
use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray, types::Int64Type};
use arrow_schema::{ArrowError, DataType};

use crate::{
    storage::{
        dtype::{Dtype, dtype_of, float_of},
        gguf::header::Element,
    },
    types::{
        Block, Encoding, Float,
        weights::{CHANNEL, DATA, DTYPE, NAME, SHAPE, WEIGHTS, shape_type, weights_type},
    },
};

/// The kind of file that rows are spooled to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Container {
    /// Safetensors: elements of any dtype.
    Safetensors,
    /// GGUF: elements and blocks.
    Gguf {
        /// `general.architecture`, where it is given.
        architecture: Option<String>,
    },
}

/// The element that a row is stored as, where that is known, and the encoding of its weights, where it has weights.
pub(super) type StoredAs = (Option<Element>, Option<Encoding>);

/// The columns of a batch, of the types that they are read as.
pub(super) struct Columns {
    pub(super) names: ArrayRef,
    pub(super) channels: ArrayRef,
    pub(super) dtypes: Option<ArrayRef>,
    pub(super) shapes: Option<ArrayRef>,
    pub(super) weights: Option<ArrayRef>,
    pub(super) data: Option<ArrayRef>,
}

impl Columns {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, String> {
        let column = |name: &str, to: DataType| {
            let Some(column) = batch.column_by_name(name) else { return Ok(None) };
            let cast = cast(column, &to);
            cast.map(Some).map_err(|_| format!("the column {name} is {}; {to} is expected", column.data_type()))
        };
        let needed = |name: &str, to| column(name, to)?.ok_or_else(|| format!("the query gives no column {name}"));
        let columns = Self {
            names: needed(NAME, DataType::Utf8View)?,
            channels: needed(CHANNEL, DataType::Int64)?,
            dtypes: column(DTYPE, DataType::Utf8View)?,
            shapes: column(SHAPE, shape_type())?,
            weights: column(WEIGHTS, weights_type())?,
            data: column(DATA, DataType::Binary)?,
        };
        if columns.weights.is_none() && columns.data.is_none() {
            return Err("the query gives neither a column weights nor a column data".to_owned());
        }
        Ok(columns)
    }

    /// Returns the names and channels of the rows, which an error looks up.
    pub(super) fn place(&self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_from_iter([(NAME, Arc::clone(&self.names)), (CHANNEL, Arc::clone(&self.channels))])
    }

    pub(super) fn stored(&self, container: &Container, rows: usize) -> Result<Vec<StoredAs>, String> {
        let dtypes = self.dtypes.as_ref().map(AsArray::as_string_view);
        let one = |row: usize| {
            let named = dtypes.filter(|dtypes| dtypes.is_valid(row)).map(|dtypes| dtypes.value(row));
            if self.weights.as_ref().is_some_and(|weights| weights.is_valid(row)) {
                let (element, encoding) = encoded_as(container, named)?;
                return Ok((Some(element), Some(encoding)));
            }
            Ok((named.map(|name| element_of(container, name)).transpose()?, None))
        };
        (0..rows).map(one).collect()
    }

    pub(super) fn shape(&self, row: usize) -> Result<Option<Vec<usize>>, String> {
        let Some(shapes) = self.shapes.as_ref().filter(|shapes| shapes.is_valid(row)) else { return Ok(None) };
        let shape = shapes.as_list::<i32>().value(row);
        let sizes = shape.as_primitive::<Int64Type>().iter();
        let sizes: Option<Vec<usize>> = sizes.map(|size| usize::try_from(size?).ok()).collect();
        sizes.map(Some).ok_or_else(|| "has a shape with a size that is null or negative".to_owned())
    }
}

/// Returns the type of a name that `data` is of.
fn element_of(container: &Container, name: &str) -> Result<Element, String> {
    match container {
        Container::Gguf { .. } => Element::of_name(name),
        Container::Safetensors => name.parse().map(Element::Plain),
    }
}

/// Returns the element and encoding of weights where the column `dtype` says `name`.
fn encoded_as(container: &Container, name: Option<&str>) -> Result<(Element, Encoding), String> {
    let block = name.and_then(|name| name.parse::<Block>().ok());
    if let (Container::Gguf { .. }, Some(block)) = (container, block) {
        return Ok((Element::Block(block), Encoding::Block(block)));
    }
    let dtype = name.and_then(|name| name.parse::<Dtype>().ok());
    if let (Some(name), None, None) = (name, block, dtype)
        && !name.starts_with("INT")
        && !name.starts_with("COMFY_")
    {
        element_of(container, name)?;
    }
    let float = dtype.filter(|dtype| !dtype.is_fp8()).and_then(float_of).unwrap_or(Float::F32);
    Ok((Element::Plain(dtype_of(float)), Encoding::Float(float)))
}
