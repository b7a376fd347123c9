//! The layout of a format other than parts: how the rows of each tensor are encoded, and where they lie.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow_array::{Array, ListArray, ListViewArray, RecordBatch, StringViewArray, types::Float32Type};
use arrow_schema::{DataType, Field, Schema};

use super::written::Written;
use crate::{
    compute::ErrorBound,
    model::{
        Model,
        tensor::{Scale, Tensor},
    },
    plan::{
        choices_table::{option_columns, option_fields},
        equalization::changes::Equalization,
        selection::{Choice, ODD},
        spec::Spec,
    },
    storage::{dtype::float_of, error::IoError, file_layout::Layout, row_layout::Piece},
    types::{Encoding, QuantizeOptions},
};

/// The layout of a format other than parts.
#[derive(Debug, Clone)]
pub struct Export {
    /// The form of each tensor, in the order of the model.
    pub tensors: Vec<TensorExport>,
    /// The places of the rows.
    pub layout: Arc<Layout>,
}

/// The form of the rows of one tensor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorExport {
    /// Quantized and decoded again first.
    pub rounded: Option<QuantizeOptions>,
    /// Their encoding. `None` means as stored.
    pub encoding: Option<Encoding>,
    /// Their name. `None` means that of the source.
    pub name: Option<String>,
}

impl Export {
    /// Returns the number that the rows of a part are a multiple of, but at the end of a tensor: then no two parts write the
    /// same byte.
    pub fn rows_together(&self) -> usize {
        let orders = self.layout.pieces.iter().flatten().map(|piece| piece.order.rows_together());
        orders.max().unwrap_or(1).max(Piece::ROWS_TOGETHER)
    }

    /// Returns where the rows of a tensor of the model are, what equalization changed of them, and the bound on the error of
    /// what is stored. `None` means that the tensor is left out. With `importance` the search weighted errors.
    pub fn written<'a>(
        &'a self,
        model: &'a Model,
        tensor: usize,
        equalization: Option<&'a Equalization>,
        importance: bool,
    ) -> Option<Written<'a>> {
        let order = self.layout.pieces[tensor].first()?.order;
        let source = &model.tensors()[tensor].name;
        let TensorExport { rounded, encoding, name } = &self.tensors[tensor];
        let bound = match rounded {
            Some(options) => Some(ErrorBound::of_options(options)),
            None => encoding.and_then(|encoding| ErrorBound::of_encoding(encoding, importance)),
        };
        let change = equalization.and_then(|equalization| equalization.of(source));
        Some(Written { name: name.as_deref().unwrap_or(source), order, change, bound })
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
            Some(Encoding::Block(_) | Encoding::Packed(_) | Encoding::Mlx(_)) => {
                let squares = mean_squares?.get(&tensor.name)?;
                match change(tensor).and_then(|change| change.factors.as_ref()) {
                    None => importance(tensor, squares),
                    Some(factors) => {
                        let squares = squares.iter().zip(factors).map(|(square, s)| square / f64::from(*s).powi(2));
                        importance(tensor, &squares.collect::<Vec<_>>())
                    }
                }
            }
            Some(Encoding::Float(_) | Encoding::Comfy(_)) | None => None,
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

/// Returns the importance of each weight of a row by the mean squares of the input channels: relative to the largest, and at least a
/// millionth of it, so that no weight is thrown away. None where nothing was ever fed, and for convolutions, whose kernels
/// no format here cuts into groups.
fn importance(tensor: &Tensor, squares: &[f64]) -> Option<Vec<f32>> {
    let most = squares.iter().copied().fold(0.0, f64::max);
    let one_each = tensor.shape.len() == 2 && squares.len() == tensor.row_length;
    (one_each && most > 0.0).then(|| squares.iter().map(|square| (square / most).max(1e-6) as f32).collect())
}

/// Tells whether an fp8 tensor becomes what it stands for.
pub(super) fn is_decoded(tensor: &Tensor) -> bool {
    tensor.dtype.is_fp8() && !matches!(tensor.scale, Scale::Unknown(_))
}

/// Leaves out what belongs to fp8 and packed tensors, which are decoded, and says so in the notes. Gives for each tensor
/// whether it is left out.
///
/// # Errors
/// An fp8 tensor cannot be decoded, since its scale cannot be told, and is not excluded by a pattern.
pub(super) fn leave_out_companions(model: &Model, choices: &mut [Choice], spec: &Spec) -> Result<Vec<bool>, IoError> {
    for (tensor, choice) in model.tensors().iter().zip(&mut *choices) {
        let Scale::Unknown(reason) = &tensor.scale else { continue };
        if !spec.exclude.iter().any(|pattern| pattern.is_match(&tensor.name)) {
            let problem = format!("{reason} ({ODD})");
            return Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem));
        }
        choice.note = format!("{}; stored as it is, which no loader decodes: {reason}", choice.note);
    }
    let applied: HashSet<usize> = model.tensors().iter().filter_map(|tensor| tensor.scale.companion()).collect();
    for (number, choice) in choices.iter_mut().enumerate().filter(|(number, _)| model.is_companion(*number)) {
        let note =
            if applied.contains(&number) { "scale, applied to its tensor" } else { "left out: its tensor is decoded" };
        note.clone_into(&mut choice.note);
    }
    Ok((0..choices.len()).map(|number| model.is_companion(number)).collect())
}
