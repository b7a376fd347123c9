//! Rows in the layouts of `ComfyUI`: the shares of a row one after the other.

use super::{ComputeError, arrays::rows::finite_absmax};
use crate::{
    kernels::{
        comfy::{
            decode_grouped4, decode_grouped6, decode_int4, decode_int8, decode_mxfp8, decode_nvfp4, encode_fp8,
            encode_grouped4, encode_grouped6, encode_int4, encode_int8, encode_mxfp8, encode_nvfp4, multiply, rotate,
        },
        widen::widen_f8_e4m3,
    },
    types::{Comfy, ComfyLayout, Method},
};

/// The largest magnitude of a row: sums of a rotation and of squares stay finite.
const MOST: f32 = 1e18;

/// The buffers of a row: rotated weights, and a number of each group.
pub(super) type Buffers<'a> = (&'a mut Vec<f32>, &'a mut Vec<f32>);

/// Encodes a row into `out`, which has the bytes of its shares; `row` is its number in errors.
///
/// # Errors
/// Returns an error if a weight is not finite or too large, or groups are of another size than 16.
pub(super) fn encode(
    comfy: Comfy,
    weights: &[f32],
    row: usize,
    (rotated, fits): Buffers<'_>,
    out: &mut [u8],
) -> Result<(), ComputeError> {
    if comfy.group_size != Comfy::GROUP_SIZE {
        let problem = format!("groups of {} are written, not of {}", Comfy::GROUP_SIZE, comfy.group_size);
        return Err(ComputeError::InvalidArgument(problem));
    }
    if finite_absmax(weights, row)? > MOST
        && let Some(element) = weights.iter().position(|weight| weight.abs() > MOST)
    {
        return Err(ComputeError::TooLarge { row, element, value: weights[element], float: comfy.layout.dtype() });
    }
    let mut weights = weights;
    if comfy.rotation > 1 {
        rotated.clear();
        rotated.extend_from_slice(weights);
        rotate(rotated, comfy.rotation as usize);
        weights = rotated;
    }
    let shares = comfy.shares(weights.len()).unwrap_or_default();
    let search = comfy.method == Method::Search;
    let scale = f32::from_bits(comfy.scale);
    let (codes, rest) = out.split_at_mut(shares.first().map_or(0, |share| (*share).min(out.len())));
    match comfy.layout {
        ComfyLayout::Int8 => put(rest, encode_int8(weights, codes)),
        ComfyLayout::W4a4 => put(rest, encode_int4(weights, search, codes)),
        ComfyLayout::Fp8 => encode_fp8(weights, scale, codes),
        ComfyLayout::Nvfp4 => encode_nvfp4(weights, scale, search, codes, rest),
        ComfyLayout::Mxfp8 => encode_mxfp8(weights, codes, rest),
        ComfyLayout::W4a8 | ComfyLayout::W6a8 => {
            let groups = shares.get(1).map_or(0, |share| (*share).min(rest.len()));
            let (scales, rest) = rest.split_at_mut(groups);
            fits.clear();
            fits.resize(groups, 0.0);
            put(
                rest,
                match comfy.layout {
                    ComfyLayout::W4a8 => encode_grouped4(weights, &comfy.level_values(), search, fits, codes, scales),
                    _ => encode_grouped6(weights, search, fits, codes, scales),
                },
            );
        }
    }
    Ok(())
}

fn put(out: &mut [u8], scale: f32) {
    if let Some(out) = out.first_chunk_mut() {
        *out = scale.to_le_bytes();
    }
}

/// Decodes a row into `out`. Integers are rotated before they are multiplied by the scale: their sums are exact.
pub(super) fn decode(comfy: Comfy, bytes: &[u8], out: &mut [f32]) {
    let shares = comfy.shares(out.len()).unwrap_or_default();
    let (codes, rest) = bytes.split_at(shares.first().map_or(0, |share| (*share).min(bytes.len())));
    let group_size = comfy.group_size.max(1) as usize;
    let tensor_scale = f32::from_bits(comfy.scale);
    let mut scale = None;
    match comfy.layout {
        ComfyLayout::Int8 => {
            decode_int8(codes, out);
            scale = Some(rest);
        }
        ComfyLayout::W4a4 => {
            decode_int4(codes, out);
            scale = Some(rest);
        }
        ComfyLayout::Fp8 => {
            widen_f8_e4m3(codes, out);
            multiply(out, tensor_scale);
        }
        ComfyLayout::Nvfp4 => decode_nvfp4(codes, rest, tensor_scale, out),
        ComfyLayout::Mxfp8 => decode_mxfp8(codes, rest, out),
        ComfyLayout::W4a8 | ComfyLayout::W6a8 => {
            let (scales, rest) = rest.split_at(shares.get(1).map_or(0, |share| (*share).min(rest.len())));
            match comfy.layout {
                ComfyLayout::W4a8 => decode_grouped4(codes, scales, group_size, &comfy.level_values(), out),
                _ => decode_grouped6(codes, scales, group_size, out),
            }
            scale = Some(rest);
        }
    }
    if comfy.rotation > 1 {
        rotate(out, comfy.rotation as usize);
    }
    if let Some(scale) = scale.and_then(<[u8]>::first_chunk) {
        multiply(out, f32::from_le_bytes(*scale));
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ListArray, cast::AsArray, types::Float32Type};

    use crate::{
        compute::{decode_as, encode_as},
        testing::samples::normal,
        types::Encoding,
    };

    fn list(row: Vec<f32>) -> ListArray {
        ListArray::from_iter_primitive::<Float32Type, _, _>([Some(row.into_iter().map(Some).collect::<Vec<_>>())])
    }

    #[test]
    fn rows_of_every_layout_come_back_near() {
        let row = normal(1024, 5);
        for (text, least) in [
            ("comfy:int8", 40.0),
            ("comfy:int8:r256", 41.0),
            ("comfy:w4a8:r256", 22.7),
            ("comfy:w4a8:r64:minmax", 22.4),
            ("comfy:w6a8:r16", 33.5),
            ("comfy:w4a4:r256", 17.5),
            ("comfy:fp8:s8e-3", 31.0),
            ("comfy:nvfp4:s1.5e-3", 21.5),
            ("comfy:mxfp8", 30.0),
        ] {
            let encoding: Encoding = text.parse().unwrap();
            let weights = list(row.clone());
            let stored = encode_as(&weights, &[Some(encoding)]).unwrap();
            assert_eq!(Some(stored.as_binary::<i32>().value(0).len()), encoding.row_bytes(1024));
            let back = decode_as(&stored, &[Some(encoding)], &[Some(1024)]).unwrap();
            let back = back.as_list::<i32>().value(0);
            let back = back.as_primitive::<Float32Type>().values();
            let noise: f64 = row.iter().zip(back).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let db = 10.0 * (row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / noise).log10();
            assert!(db > least, "{text}: {db}");
        }
    }

    #[test]
    fn what_a_layout_cannot_hold_is_an_error() {
        let error =
            |row: Vec<f32>, text: &str| encode_as(&list(row), &[Some(text.parse().unwrap())]).unwrap_err().to_string();
        assert!(error(vec![1.0, f32::NAN], "comfy:int8").contains("row 0, element 1"));
        assert!(error(vec![1.0, 1e20], "comfy:int8").contains("beyond what COMFY_INT8 holds"));
        assert!(error(vec![1.0; 24], "comfy:nvfp4").contains("cannot be stored as comfy:nvfp4"));
        assert!(error(vec![1.0; 64], "comfy:w4a8:g32").contains("groups of 16 are written"));
    }
}
