//! A GGUF file with llama.cpp's names beside the checkpoint that it may come from: which tensor is which.

use super::family::{Family, HEADS, KEY_HEADS, SIZES, dealt};
use crate::{
    model::{Model, tensor::Tensor},
    storage::{
        error::IoError,
        gguf::{
            value::{Pair, Value},
            writer::ARCHITECTURE,
        },
        row_layout::Order,
    },
};

/// The names and the order of rows that a GGUF file has in place of those of its source: those of the export.
#[derive(Debug)]
pub struct EngineNames<'m> {
    family: &'static Family,
    file: &'m Model,
    pairs: &'m [Pair],
}

impl<'m> EngineNames<'m> {
    /// Returns the names of a model; `None` if it is no GGUF file, or one whose tensors keep the names of the source.
    pub fn of(model: &'m Model) -> Option<Self> {
        let pairs = model.files().first()?.pairs.as_slice();
        let Value::String(architecture) = &pairs.iter().find(|pair| pair.key == ARCHITECTURE)?.value else {
            return None;
        };
        Family::of_architecture(architecture).map(|family| Self { family, file: model, pairs })
    }

    /// Returns the `general.architecture` of the file.
    pub fn architecture(&self) -> &'static str {
        self.family.architecture
    }

    /// Returns the tensor of the file that a tensor of the source became, and the order of its rows there. `None` means
    /// that the file has none of that name.
    ///
    /// # Errors
    /// Returns an error if the file does not say within how many heads its rows are interleaved, or if the number does
    /// not fit.
    pub fn find(&self, name: &str) -> Result<Option<(&'m Tensor, Order)>, IoError> {
        let Some(tensor) = self.family.name(name).and_then(|name| self.file.tensor(&name)) else { return Ok(None) };
        let Some(number) = self.family.heads_of(&tensor.name) else { return Ok(Some((tensor, Order::Rows))) };
        let size = |number: usize| {
            let key = format!("{}.{}", self.family.architecture, SIZES[number]);
            self.pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_u64())
        };
        // One that is no number, as of each layer, is not the same as none.
        let heads = size(number).or_else(|| if number == KEY_HEADS { size(HEADS) } else { None }).flatten();
        let order =
            heads.ok_or_else(|| format!("is of unknown heads: the file must say {} as a number", SIZES[number]));
        let order = order.and_then(|heads| dealt(&tensor.shape, heads));
        let order = order.map_err(|problem| IoError::tensor(&self.file.file_of(tensor).path, &tensor.name, problem))?;
        Ok(Some((tensor, order)))
    }
}
