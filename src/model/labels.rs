//! The strings of tensors as shared views, and their shapes as an array.

use std::sync::Arc;

use arrow_array::{Int64Array, ListArray, StringViewArray, builder::make_view};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field};

use super::tensor::Tensor;

/// The most text of one buffer: views count in 32 bits.
const MOST_TEXT: usize = i32::MAX as usize;

/// Strings, one for each tensor, as views into shared buffers: a batch repeats the 16 bytes of a view, never the text.
#[derive(Debug)]
pub struct Views {
    texts: Vec<Buffer>,
    views: Vec<u128>,
}

impl Views {
    fn new<'a>(strings: impl Iterator<Item = &'a str>) -> Self {
        let mut texts = Vec::new();
        let mut text = Vec::new();
        let mut views = Vec::new();
        for string in strings {
            if text.len() + string.len() > MOST_TEXT {
                texts.push(Buffer::from_vec(std::mem::take(&mut text)));
            }
            views.push(make_view(string.as_bytes(), texts.len() as u32, text.len() as u32));
            // Up to 12 bytes lie in the view itself.
            if string.len() > 12 {
                text.extend_from_slice(string.as_bytes());
            }
        }
        texts.push(Buffer::from_vec(text));
        Self { texts, views }
    }

    /// Returns the strings of the tensors given, each as often as said.
    pub(crate) fn repeated(&self, counts: impl Iterator<Item = (usize, usize)>) -> Result<StringViewArray, ArrowError> {
        let mut views = Vec::new();
        for (tensor, count) in counts {
            views.resize(views.len() + count, self.views[tensor]);
        }
        StringViewArray::try_new(ScalarBuffer::from(views), self.texts.clone(), None)
    }
}

/// The string columns of every tensor.
#[derive(Debug)]
pub struct Labels {
    pub(crate) names: Views,
    pub(crate) modules: Views,
    pub(crate) dtypes: Views,
}

impl Labels {
    pub(super) fn new(tensors: &[Tensor], dtype: impl Fn(&Tensor) -> &'static str) -> Self {
        Self {
            names: Views::new(tensors.iter().map(|tensor| tensor.name.as_str())),
            modules: Views::new(tensors.iter().map(|tensor| tensor.module.as_str())),
            dtypes: Views::new(tensors.iter().map(dtype)),
        }
    }
}

/// Returns the shapes of the tensors given, each as often as said.
pub(crate) fn shapes<'a>(tensors: impl Iterator<Item = (&'a Tensor, usize)>) -> Result<ListArray, ArrowError> {
    let mut offsets = vec![0i32];
    let mut values = Vec::new();
    for (tensor, count) in tensors {
        for _ in 0..count {
            values.extend(tensor.shape.iter().map(|dimension| *dimension as i64));
            offsets.push(i32::try_from(values.len()).map_err(|_| ArrowError::OffsetOverflowError(values.len()))?);
        }
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let field = Arc::new(Field::new_list_field(DataType::Int64, true));
    ListArray::try_new(field, offsets, Arc::new(Int64Array::from(values)), None)
}
