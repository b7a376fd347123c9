//! `decode_as`: the bytes that a file format stores back to rows of weights.

use arrow_array::{Array, ArrayRef, cast::AsArray, types::Float32Type};
use arrow_schema::DataType;

use super::{
    ComputeError,
    arrays::{
        encoding::{check_count, for_row, row_bytes},
        floats::{round, widen},
        list::ListBuilder,
    },
    comfy, mlx,
};
use crate::{
    kernels::{affine::affine_decode, gguf::decode_blocks},
    types::{Encoding, Packed},
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
        Encoding::Float(float) => widen(float, bytes, out),
        Encoding::Packed(packed) => unpack(packed, bytes, out),
        Encoding::Block(block) => decode_blocks(block, bytes, out),
        Encoding::Comfy(layout) => comfy::decode(layout, bytes, out),
        Encoding::Mlx(layout) => mlx::decode(layout, bytes, out),
    }
}

fn unpack(packed: Packed, bytes: &[u8], out: &mut [f32]) {
    let groups = packed.groups(out.len()).unwrap_or(0);
    let (codes, rest) = bytes.split_at(packed.code_bytes(out.len()).min(bytes.len()));
    let (stored, zero_points) = rest.split_at((groups * packed.scale.bytes()).min(rest.len()));
    let mut scales = vec![0.0; groups];
    widen(packed.scale, stored, &mut scales);
    let zero_points = (!packed.symmetric).then_some(zero_points);
    let group_size = packed.group_size.map_or(usize::MAX, |size| size as usize);
    affine_decode(codes, packed.bits.get(), group_size, &scales, zero_points, out);
    // Engines multiply in the float of the scale.
    round(packed.scale, out);
}
