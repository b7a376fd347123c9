//! The rows of a run as they are stored, each whole.

use arrow_array::{Array, RecordBatch};

use crate::{
    compute::QuantizedArray,
    model::{
        Model,
        part::Run,
        part_rows::{append_stored, columns},
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

/// Refuses rows of parts that are too short for what the manifest says, before memory is taken for them.
pub(super) fn check_parts(model: &Model, run: &Run, batch: &RecordBatch) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    let path = &model.file_of(tensor).path;
    let (quantized, data) = columns(batch).map_err(|problem| IoError::file(path, problem))?;
    let refuse = |row: usize, problem: String| {
        IoError::tensor(path, &tensor.name, format!("row {} {problem}", run.rows.start + row))
    };
    let values = QuantizedArray::try_new(quantized).map_err(|error| IoError::file(path, error.to_string()))?;
    for row in 0..batch.num_rows() {
        let value = values.row(row);
        let value =
            value.map_err(|error| IoError::tensor(path, &tensor.name, error.offset(run.rows.start).to_string()))?;
        if let Some(length) = value.map(|value| value.length())
            && length != tensor.row_length
        {
            return Err(refuse(row, format!("has {length} weights, not {}", tensor.row_length)));
        }
        // No dtype has less than a bit for an element.
        let bytes = if data.is_valid(row) { data.value(row).len() } else { 0 };
        if value.is_none() && bytes.saturating_mul(8) < tensor.row_length {
            return Err(refuse(row, format!("has {bytes} bytes, which do not hold {} elements", tensor.row_length)));
        }
    }
    Ok(())
}

/// Appends rows of parts, each whole, and where each ends.
pub(super) fn copy_parts(
    model: &Model,
    run: &Run,
    batch: &RecordBatch,
    bytes: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    let path = &model.file_of(tensor).path;
    let start = bytes.len();
    let fixed = append_stored(batch, bytes, ends)
        .map_err(|error| IoError::tensor(path, &tensor.name, error.offset(run.rows.start).to_string()))?;
    if fixed && bytes.len() - start != stored_row_bytes(tensor) * run.rows.len() {
        return Err(IoError::tensor(path, &tensor.name, "differs in size from what the manifest says"));
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
        (_, Some(parts)) => {
            copy_parts(model, run, &parts.rows(run.tensor, &run.rows, false)?, bytes, &mut Vec::new())?;
        }
        (_, None) => {
            let (start, range) = (bytes.len(), tensor.rows_range(&run.rows));
            bytes.resize(start + range.len(), 0);
            model.read(tensor.file(), range.start, &mut bytes[start..])?;
        }
    }
    Ok(())
}
