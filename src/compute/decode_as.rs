//! `decode_as`: the bytes that a file format stores back to rows of weights.

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Float32Type};
use arrow_schema::DataType;

use super::{
    ComputeError,
    arrays::{
        encoding::{check_count, for_row, row_bytes},
        list::ListBuilder,
    },
    comfy,
};
use crate::{
    kernels::{
        affine::affine_decode,
        gguf::decode_blocks,
        narrow::{narrow_bf16, narrow_f16},
        widen::{narrow_f64, widen_bf16, widen_f16},
    },
    types::{Encoding, Float, Packed},
};

/// Decodes each row of `data` to `List<Float32>`: the reverse of [`encode_as`](super::encode_as).
///
/// `encodings` holds one for all rows, or one for each, as does `lengths` with the weights of a row. A null row, and a row
/// without encoding or length, gives null.
///
/// # Errors
/// Returns an error if `data` is not `Binary`, the size of a row differs from that of its encoding, or the result would
/// pass what one array holds.
///
/// # Example
/// See [`encode_as`](super::encode_as).
pub fn decode_as(
    data: &dyn Array,
    encodings: &[Option<Encoding>],
    lengths: &[Option<usize>],
) -> Result<ArrayRef, ComputeError> {
    if *data.data_type() != DataType::Binary {
        return Err(ComputeError::InvalidArgument(format!("data must be Binary, not {}", data.data_type())));
    }
    let data = data.as_binary::<i32>();
    check_count("encodings", encodings.len(), data.len())?;
    check_count("lengths", lengths.len(), data.len())?;
    let mut builder = ListBuilder::<Float32Type>::with_capacity(data.len(), 0);
    for row in 0..data.len() {
        let what = data.is_valid(row).then(|| for_row(encodings, row).zip(for_row(lengths, row))).flatten();
        let Some((encoding, length)) = what else {
            builder.push_null();
            continue;
        };
        let (got, expected) = (data.value(row).len(), row_bytes(encoding, length)?);
        if got != expected {
            return Err(ComputeError::Length { row, what: "data", got, expected });
        }
        decode_row(encoding, data.value(row), builder.push(length)?);
    }
    builder.finish()
}

/// Decodes one row into `out`. `bytes` are [`Encoding::row_bytes`] of the weights that `out` has room for; with fewer,
/// the rest of `out` stays as it is.
pub fn decode_row(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    match encoding {
        Encoding::Float(float) => floats(float, bytes, out),
        Encoding::Packed(packed) => unpack(packed, bytes, out),
        Encoding::Block(block) => decode_blocks(block, bytes, out),
        Encoding::Comfy(layout) => comfy::decode(layout, bytes, out),
    }
}

fn floats(float: Float, bytes: &[u8], out: &mut [f32]) {
    match float {
        Float::BF16 => widen_bf16(bytes, out),
        Float::F16 => widen_f16(bytes, out),
        Float::F64 => narrow_f64(bytes, out),
        Float::F32 => {
            for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
    }
}

fn unpack(packed: Packed, bytes: &[u8], out: &mut [f32]) {
    let groups = packed.groups(out.len()).unwrap_or(0);
    let (codes, rest) = bytes.split_at(packed.code_bytes(out.len()).min(bytes.len()));
    let (stored, zero_points) = rest.split_at((groups * packed.scale.bytes()).min(rest.len()));
    let mut scales = vec![0.0; groups];
    floats(packed.scale, stored, &mut scales);
    let zero_points = (!packed.symmetric).then_some(zero_points);
    let group_size = packed.group_size.map_or(usize::MAX, |size| size as usize);
    affine_decode(codes, packed.bits.get(), group_size, &scales, zero_points, out);
    round(packed.scale, out);
}

/// Rounds to a float: engines multiply in that of the scale.
fn round(float: Float, weights: &mut [f32]) {
    const BLOCK: usize = 256;
    let mut bytes = [0; 2 * BLOCK];
    for weights in weights.chunks_mut(BLOCK) {
        let bytes = &mut bytes[..2 * weights.len()];
        match float {
            Float::BF16 => narrow_bf16(weights, bytes),
            Float::F16 => narrow_f16(weights, bytes),
            Float::F32 | Float::F64 => return,
        }
        floats(float, bytes, weights);
    }
}
