//! Rows as stored to f32, times the scale of an fp8 tensor.

use super::stored::copy_rows;
use crate::{
    compute::decode_row,
    kernels::widen::{
        narrow_f64, widen_bf16, widen_f8_e4m3, widen_f8_e4m3fnuz, widen_f8_e5m2, widen_f8_e5m2fnuz, widen_f16,
    },
    model::{
        Model,
        fp8_scale::blocks_of_row,
        part::Run,
        tensor::{Scale, Storage, Tensor},
    },
    storage::{dtype::Dtype, error::IoError},
};

/// Widens the rows of a run. `bytes` are the rows as stored, `out` has an f32 for each element.
///
/// # Errors
/// An fp8 tensor whose scale cannot be told.
pub fn rows(model: &Model, run: &Run, bytes: &[u8], out: &mut [f32]) -> Result<(), IoError> {
    let tensor = &model.tensors()[run.tensor];
    let length = tensor.row_length.max(1);
    if let Storage::Encoded { encoding, .. } = &tensor.storage {
        let row_bytes = bytes.len() / run.rows.len().max(1);
        for (bytes, out) in bytes.chunks_exact(row_bytes.max(1)).zip(out.chunks_exact_mut(length)) {
            decode_row(*encoding, bytes, out);
        }
        return Ok(());
    }
    widen(tensor.dtype, bytes, out);
    match &tensor.scale {
        Scale::None | Scale::One => {}
        Scale::Unknown(reason) => {
            return Err(IoError::tensor(&model.file_of(tensor).path, &tensor.name, reason.clone()));
        }
        Scale::Tensor { companion } => {
            for scale in scales(model, *companion, 0..1)? {
                multiply(out, scale);
            }
        }
        Scale::Row { companion } => {
            let scales = scales(model, *companion, run.rows.clone())?;
            for (row, scale) in out.chunks_exact_mut(length).zip(scales) {
                multiply(row, scale);
            }
        }
        Scale::Block { companion, sides } => {
            for (row, number) in out.chunks_exact_mut(length).zip(run.rows.clone()) {
                let (range, width) = blocks_of_row(tensor, number, *sides);
                for (block, scale) in row.chunks_mut(width).zip(scales(model, *companion, range)?) {
                    multiply(block, scale);
                }
            }
        }
    }
    Ok(())
}

/// Some elements of a companion, in f32.
fn scales(model: &Model, companion: usize, elements: std::ops::Range<usize>) -> Result<Vec<f32>, IoError> {
    let tensor: &Tensor = &model.tensors()[companion];
    let size = tensor.dtype.bits() / 8;
    if !tensor.is_plain() {
        let mut bytes = Vec::new();
        copy_rows(model, &Run { tensor: companion, rows: 0..tensor.rows }, &mut bytes)?;
        let mut scales = vec![0.0; elements.len()];
        widen(tensor.dtype, bytes.get(elements.start * size..elements.end * size).unwrap_or_default(), &mut scales);
        return Ok(scales);
    }
    let start = tensor.rows_range(&(0..0)).start;
    let mut bytes = vec![0; elements.len() * size];
    model.read(tensor.file(), start + elements.start * size, &mut bytes)?;
    let mut scales = vec![0.0; elements.len()];
    widen(tensor.dtype, &bytes, &mut scales);
    Ok(scales)
}

fn multiply(values: &mut [f32], scale: f32) {
    for value in values {
        *value *= scale;
    }
}

/// The elements of a dtype that is a float, in f32: exact, but for F64, which is rounded to even.
fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::BF16 => widen_bf16(bytes, out),
        Dtype::F16 => widen_f16(bytes, out),
        Dtype::F64 => narrow_f64(bytes, out),
        Dtype::F8_E4M3 => widen_f8_e4m3(bytes, out),
        Dtype::F8_E5M2 => widen_f8_e5m2(bytes, out),
        Dtype::F8_E4M3FNUZ => widen_f8_e4m3fnuz(bytes, out),
        Dtype::F8_E5M2FNUZ => widen_f8_e5m2fnuz(bytes, out),
        // An exponent alone; 255 is not a number.
        Dtype::F8_E8M0 | Dtype::U8 => {
            for (out, exponent) in out.iter_mut().zip(bytes) {
                *out = match *exponent {
                    0 => f32::from_bits(1 << 22),
                    u8::MAX => f32::NAN,
                    exponent => f32::from_bits(u32::from(exponent) << 23),
                };
            }
        }
        // `is_float` is false for the others, and their weights are null.
        _ => {}
    }
}
