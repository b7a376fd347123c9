//! The rows of a run as they are stored, each whole.

use arrow_array::RecordBatch;

use crate::{
    model::{
        Model,
        part::Run,
        part_rows::append_stored,
        tensor::{Storage, Tensor},
    },
    storage::error::IoError,
};

/// The bytes of a row as it is stored: what all pieces hold of it.
pub(super) fn stored_row_bytes(tensor: &Tensor) -> usize {
    match &tensor.storage {
        Storage::Plain { .. } | Storage::Parts { .. } => tensor.row_bytes(),
        Storage::Encoded { pieces, .. } => pieces.iter().map(|piece| piece.row_bytes).sum(),
    }
}

/// Appends rows of parts, each whole.
pub(super) fn copy_parts(model: &Model, run: &Run, batch: &RecordBatch, bytes: &mut Vec<u8>) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    let path = &model.file_of(tensor).path;
    let start = bytes.len();
    append_stored(batch, bytes)
        .map_err(|error| IoError::tensor(path, &tensor.name, error.offset(run.rows.start).to_string()))?;
    if bytes.len() - start != stored_row_bytes(tensor) * run.rows.len() {
        return Err(IoError::tensor(path, &tensor.name, "has not the bytes that the manifest says"));
    }
    Ok(())
}

/// Appends the rows of a run, each whole.
pub(super) fn copy_rows(model: &Model, run: &Run, bytes: &mut Vec<u8>) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    match (&tensor.storage, model.part_rows()) {
        (Storage::Encoded { pieces, .. }, _) => {
            let (start, stride) = (bytes.len(), stored_row_bytes(tensor));
            bytes.resize(start + stride * run.rows.len(), 0);
            let mut offset = 0;
            for piece in pieces {
                let range = piece.range(&run.rows);
                let mut shares = vec![0; range.len()];
                model.read(piece.file, range.start, &mut shares)?;
                piece.scatter(&shares, &run.rows, &mut bytes[start..], stride, offset);
                offset += piece.row_bytes;
            }
        }
        (_, Some(parts)) => copy_parts(model, run, &parts.rows(run.tensor, &run.rows, false)?, bytes)?,
        (_, None) => {
            let (start, range) = (bytes.len(), tensor.rows_range(&run.rows));
            bytes.resize(start + range.len(), 0);
            model.read(tensor.file(), range.start, &mut bytes[start..])?;
        }
    }
    Ok(())
}
