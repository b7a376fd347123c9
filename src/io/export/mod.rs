//! Formats that engines load: what becomes of each tensor, and where its rows lie, known before a weight is read.
//!
//! A format is a function that makes an [`Export`]: how the rows of each tensor are encoded, and a [`Layout`] of files
//! with a place for every row. The rest is the same for all formats: `sql/export.sql` encodes the rows, parts are the
//! unit of work, and [`RowWriter`](crate::io::output::RowWriter) puts each row in its place.

pub mod compressed_tensors;
mod gather;
mod gguf;
mod layout;
mod safetensors;
pub mod shards;

use std::{collections::BTreeMap, sync::Arc};

use arrow_array::{Array, ListArray, ListViewArray, RecordBatch, StringViewArray, types::Float32Type};
use arrow_schema::{DataType, Field, Schema};

pub use gather::{Container, RowGatherer};
pub use gguf::{EngineNames, GgufOptions, Misfit};
pub use layout::{Layout, PlannedFile};

use super::{
    Choice, Equalization, IoError, Model, OutputFormat, Tensor,
    check::Written,
    choice::{option_columns, option_fields},
    dtype::float_of,
};
use crate::types::{Encoding, Float, QuantizeOptions};

/// The format that a run writes, and what it lets one choose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The format.
    pub format: OutputFormat,
    /// What floats are stored as where the format leaves it open; none: as the source has them.
    pub dtype: Option<Float>,
    /// The most bytes of a file, where the format has shards.
    pub shard_bytes: u64,
    /// What GGUF lets one choose.
    pub gguf: GgufOptions,
}

impl Target {
    /// The most bytes of a file where nothing else is asked for: what the Hugging Face hub recommends.
    pub const SHARD_BYTES: u64 = 5_000_000_000;

    /// The options by their names, for a manifest to record.
    pub fn describe(&self) -> BTreeMap<String, serde_json::Value> {
        if self.format.has_parts() {
            return BTreeMap::new();
        }
        if self.format == OutputFormat::Gguf {
            return self.gguf.describe();
        }
        let dtype = self.dtype.map_or("source", Float::name);
        [("dtype", dtype.into()), ("shard_bytes", self.shard_bytes.into())]
            .map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value))
            .into()
    }
}

impl From<OutputFormat> for Target {
    fn from(format: OutputFormat) -> Self {
        Self { format, dtype: None, shard_bytes: Self::SHARD_BYTES, gguf: GgufOptions::default() }
    }
}

/// How a run writes a format other than parts.
#[derive(Debug, Clone)]
pub struct Export {
    /// How each tensor is written, in the order of the model.
    pub tensors: Vec<TensorExport>,
    /// Where the rows go.
    pub layout: Layout,
}

/// How the rows of one tensor are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorExport {
    /// Quantized and decoded again first.
    pub rounded: Option<QuantizeOptions>,
    /// Encoded so; none: as stored.
    pub encoding: Option<Encoding>,
    /// Called so; none: as in the source.
    pub name: Option<String>,
}

impl Export {
    /// Plans what `target` asks for. The choices may change: a format that cannot hold a tensor quantized so says why in
    /// its note.
    ///
    /// # Errors
    /// The format cannot hold the model, or an option is not one of it.
    pub fn plan(model: &Model, choices: &mut [Choice], target: &Target) -> Result<Option<Self>, IoError> {
        if let Some(dtype) = target.dtype
            && target.format != OutputFormat::Safetensors
        {
            let problem = format!("--dtype {dtype} needs --format safetensors: others keep what they carry");
            return Err(IoError::Request(problem));
        }
        if target.format != OutputFormat::Gguf && target.gguf != GgufOptions::default() {
            let problem =
                "--gguf-type, --gguf-type-for, --gguf-architecture, --gguf-pre and --misfit need --format gguf";
            return Err(IoError::Request(problem.to_owned()));
        }
        match target.format {
            OutputFormat::Parquet | OutputFormat::Arrow => Ok(None),
            OutputFormat::Safetensors => safetensors::plan(model, choices, target).map(Some),
            OutputFormat::CompressedTensors => compressed_tensors::plan(model, choices, target).map(Some),
            OutputFormat::Gguf => gguf::plan(model, choices, &target.gguf).map(Some),
        }
    }

    /// Where the rows of a tensor of the model are, and what equalization changed of them; none: it is left out.
    pub fn written<'a>(
        &'a self,
        model: &'a Model,
        tensor: usize,
        equalization: Option<&'a Equalization>,
    ) -> Option<Written<'a>> {
        let order = self.layout.pieces[tensor].first()?.order;
        let source = &model.tensors()[tensor].name;
        let name = self.tensors[tensor].name.as_deref().unwrap_or(source);
        Some(Written { name, order, change: equalization.and_then(|equalization| equalization.of(source)) })
    }

    /// The table `choices` that `sql/export.sql` joins, one row per tensor: `name`; `bits`, `group_size`, `method` and
    /// `symmetric`, null for a tensor that is not quantized and decoded again; `encoding`, null for one that is written as
    /// stored; `importance`, how much the error of each weight of a row counts, null where all count alike. `mean_squares`
    /// says by name how large each input channel of a layer is, before `equalization`. What that changes is encoded as what
    /// it was where it would be written as stored.
    ///
    /// # Errors
    /// There is not one entry for each tensor of the model.
    pub fn choices_batch(
        &self,
        model: &Model,
        mean_squares: Option<&BTreeMap<String, Vec<f64>>>,
        equalization: Option<&Equalization>,
    ) -> Result<RecordBatch, IoError> {
        let names = model.tensors().iter().map(|tensor| tensor.name.as_str());
        let rounded = self.tensors.iter().map(|tensor| tensor.rounded).chain(std::iter::repeat(None));
        let change = |tensor: &Tensor| equalization.and_then(|equalization| equalization.of(&tensor.name));
        let encodings = model.tensors().iter().zip(&self.tensors).map(|(tensor, export)| {
            let changed = || change(tensor).and_then(|_| float_of(tensor.dtype)).map(Encoding::Float);
            export.encoding.or_else(changed).map(|encoding| encoding.to_string())
        });
        let mut fields = option_fields(true);
        fields.push(Field::new("encoding", DataType::Utf8View, true));
        let mut columns = option_columns(names.zip(rounded));
        columns.push(Arc::new(encodings.collect::<StringViewArray>()));
        let importances = model.tensors().iter().zip(&self.tensors).map(|(tensor, export)| match export.encoding {
            Some(Encoding::Block(_) | Encoding::Packed(_)) => {
                let squares = mean_squares?.get(&tensor.name)?;
                match change(tensor).and_then(|change| change.factors.as_ref()) {
                    None => importance(tensor, squares),
                    Some(factors) => {
                        let squares = squares.iter().zip(factors).map(|(square, s)| square / f64::from(*s).powi(2));
                        importance(tensor, &squares.collect::<Vec<_>>())
                    }
                }
            }
            Some(Encoding::Float(_)) | None => None,
        });
        let importances = importances.map(|row| row.map(|row| row.into_iter().map(Some)));
        let importances = ListArray::from_iter_primitive::<Float32Type, _, _>(importances);
        // A view, so that a join shares it among rows instead of copying it.
        let importances = ListViewArray::from(importances);
        fields.push(Field::new("importance", importances.data_type().clone(), true));
        columns.push(Arc::new(importances));
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(IoError::arrow(model.folder()))
    }
}

/// What the mean squares of the input channels make of each weight of a row: relative to the largest, and at least a
/// millionth of it, so that no weight is thrown away. None where nothing was ever fed, and for convolutions, whose kernels
/// no format here cuts into groups.
fn importance(tensor: &Tensor, squares: &[f64]) -> Option<Vec<f32>> {
    let most = squares.iter().copied().fold(0.0, f64::max);
    let one_each = tensor.shape.len() == 2 && squares.len() == tensor.row_length;
    (one_each && most > 0.0).then(|| squares.iter().map(|square| (square / most).max(1e-6) as f32).collect())
}

/// Leaves out the scales that every tensor they belong to has applied, and says so in their notes. Gives for each tensor
/// whether it is left out.
fn leave_out_applied_scales(model: &Model, exports: &mut [TensorExport], choices: &mut [Choice]) -> Vec<bool> {
    let mut applied = vec![false; exports.len()];
    let users = || model.tensors().iter().zip(&*exports).filter_map(|(t, e)| Some((t.scale.companion()?, e)));
    users().filter(|(_, export)| export.encoding.is_some()).for_each(|(companion, _)| applied[companion] = true);
    users().filter(|(_, export)| export.encoding.is_none()).for_each(|(companion, _)| applied[companion] = false);
    for (number, _) in applied.iter().enumerate().filter(|(_, applied)| **applied) {
        exports[number].encoding = None;
        "scale, applied to its tensor".clone_into(&mut choices[number].note);
    }
    applied
}

#[cfg(test)]
mod tests;
