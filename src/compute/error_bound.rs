//! The check that decoded weights are no further away than rounding explains.

use arrow_array::Array;

use super::{ComputeError, Rows};
use crate::{
    kernels::error_bound::first_beyond,
    types::{Comfy, ComfyLayout, Encoding, Float, Method, Mlx, MlxType, QuantizeOptions},
};

/// A bound on the root mean square of the errors of a group, from the largest size of its weights: `share` of it, and
/// `least`, the error of scales that are too small for their float.
///
/// It holds for the range of the group, so it holds for a search, which loses no more. It is twice what a range needs:
/// scales and zero points are rounded as well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ErrorBound {
    /// Weights that are looked at together. `None` means the whole row.
    group_size: Option<u32>,
    share: f32,
    least: f32,
}

impl ErrorBound {
    /// Returns the bound of what is stored as `encoding`, or `None` for floats. With `importance` weights that count for
    /// nothing may err by as much as they are large.
    pub fn of_encoding(encoding: Encoding, importance: bool) -> Option<Self> {
        let (bits, group_size, scale) = match encoding {
            Encoding::Float(_) => return None,
            Encoding::Packed(packed) => (packed.bits.get(), packed.group_size, packed.scale),
            Encoding::Block(block) => (block.bits(), Some(block.weights() as u32), Float::F16),
            Encoding::Comfy(comfy) => return Some(Self::of_comfy(comfy)),
            Encoding::Mlx(mlx) => return Some(Self::of_mlx(mlx, importance)),
        };
        let steps = steps(bits);
        let share = if importance { 2.0 } else { 2.0 / steps };
        // Half precision ends at 2^-24.
        let least = if scale == Float::F16 { steps / 16_777_216.0 } else { 0.0 };
        Some(Self { group_size, share, least })
    }

    /// Returns the bound of a row as `ComfyUI` stores it. A rotation gathers what lies across a run of inputs in one of them, so
    /// the error of the whole row counts.
    fn of_comfy(comfy: Comfy) -> Self {
        let spread = (comfy.rotation as f32).sqrt();
        let tensor_scale = f32::from_bits(comfy.scale);
        let (group_size, share, least) = match comfy.layout {
            ComfyLayout::Int8 => (None, 2.0 / 254.0 * spread, 1e-30),
            ComfyLayout::W4a4 => (None, 2.0 / 14.0 * spread, 1e-10),
            ComfyLayout::W4a8 => (None, 2.0 / 15.0 * spread, 2e-8),
            ComfyLayout::W6a8 => (None, 2.0 / 62.0 * spread, 2e-8),
            ComfyLayout::Fp8 => (None, 2.0 / 15.0, tensor_scale / 512.0),
            ComfyLayout::Nvfp4 => (Some(16), 0.3, tensor_scale / 64.0),
            ComfyLayout::Mxfp8 => (Some(32), 2.0 / 15.0, 1e-35),
        };
        Self { group_size, share: share.min(1.01), least }
    }

    /// Returns the bound of a row as MLX stores it: the range of integers, or the steps of small floats. What they decode to is
    /// rounded to the float of the layer, twice.
    fn of_mlx(mlx: Mlx, importance: bool) -> Self {
        let steps = steps(mlx.kind.bits());
        let rounded = match mlx.float {
            Float::BF16 => 1.0 / 128.0,
            Float::F16 => 1.0 / 1024.0,
            Float::F32 | Float::F64 => 0.0,
        };
        let (share, least) = match mlx.kind {
            MlxType::Nvfp4 => (0.3, 1.0 / 128.0),
            MlxType::Mxfp4 => (0.5, 1e-37),
            MlxType::Mxfp8 => (2.0 / 15.0, 1e-37),
            _ if importance => (2.0, steps / 16_777_216.0),
            // Half precision ends at 2^-24; MLX takes no scale below 1e-7.
            _ if mlx.float == Float::F16 || mlx.method == Method::Minmax => {
                (2.0 / steps + rounded, steps / 4_194_304.0)
            }
            _ => (2.0 / steps + rounded, 0.0),
        };
        Self { group_size: Some(mlx.group_size), share, least }
    }

    /// Returns the bound of rows that are quantized by `options` and decoded again. The groups of a row share its scale,
    /// which is fitted to all of them, so the bound is one for the whole row.
    pub fn of_options(options: &QuantizeOptions) -> Self {
        Self { group_size: None, share: 2.0 / steps(options.bits.get()), least: 0.0 }
    }

    /// Refuses decoded rows that are further from the rows of `weights` than the bound. Both are lists of floats. A pair
    /// with a null row passes.
    ///
    /// # Errors
    /// Returns [`ComputeError::Beyond`] for the first row with such a group. Returns an error if an array is of another
    /// type, if the numbers of rows or the lengths of two rows differ, or if an element is null.
    pub fn check(&self, weights: &dyn Array, decoded: &dyn Array) -> Result<(), ComputeError> {
        let (weights, decoded) = (Rows::try_new(weights, "weights")?, Rows::try_new(decoded, "decoded")?);
        if weights.len() != decoded.len() {
            let problem = format!("there are {} rows of weights, and {} decoded", weights.len(), decoded.len());
            return Err(ComputeError::InvalidArgument(problem));
        }
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for row in 0..weights.len() {
            let (Some(a), Some(b)) = (weights.row(row, &mut a)?, decoded.row(row, &mut b)?) else { continue };
            if a.len() != b.len() {
                return Err(ComputeError::Length { row, what: "decoded", got: b.len(), expected: a.len() });
            }
            let group_size = self.group_size.map_or(a.len(), |size| size as usize).max(1);
            let group = first_beyond(a, b, group_size, self.share, self.least);
            if group < a.len().div_ceil(group_size) {
                return Err(ComputeError::Beyond { row, element: group * group_size });
            }
        }
        Ok(())
    }
}

/// Returns the steps between the codes of a width.
fn steps(bits: u8) -> f32 {
    f32::from((1u16 << bits.min(8)) - 1)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, ListArray, types::Float32Type};

    use super::*;
    use crate::{
        compute::{decode_as, dequantize, encode_as, encode_as_weighted, quantize},
        testing::samples,
        types::{Bits, Block},
    };

    fn list(rows: &[Vec<f32>]) -> ListArray {
        ListArray::from_iter_primitive::<Float32Type, _, _>(
            rows.iter().map(|row| Some(row.iter().copied().map(Some).collect::<Vec<_>>())),
        )
    }

    /// Rows of every kind that every encoding holds, of 512 weights.
    fn rows() -> Vec<Vec<f32>> {
        let mut rows: Vec<Vec<f32>> = samples::rows()
            .step_by(12)
            .filter(|row| !row.is_empty() && row.iter().all(|x| x.abs() < 6e4))
            .map(|row| row.iter().copied().cycle().take(512).collect())
            .collect();
        for scale in [1.0, 1e-3, 1e-5, 1e-6, 3e-8, 1e-12] {
            let normal = samples::normal(512, 5);
            rows.push(normal.iter().map(|x| x * scale).collect());
            rows.push(vec![scale; 512]);
            rows.push((0..512).map(|i| scale * (1.0 + 1e-3 * (i % 7) as f32)).collect());
            rows.push(normal.iter().map(|x| if *x > 0.0 { scale } else { -scale }).collect());
            rows.push((0..512).map(|i| if i % 100 == 3 { scale } else { scale * 1e-4 }).collect());
        }
        rows
    }

    fn encodings() -> Vec<Encoding> {
        let packed = ["int2", "int3", "int4", "int8"].into_iter().flat_map(|bits| {
            ["g8", "g32", "channel"].into_iter().flat_map(move |group| {
                ["symmetric", "asymmetric"].into_iter().flat_map(move |kind| {
                    ["F32", "BF16", "F16"].into_iter().flat_map(move |scale| {
                        ["search", "minmax"].map(move |method| format!("{bits}:{group}:{kind}:{scale}:{method}"))
                    })
                })
            })
        });
        let packed = packed.map(|text| text.parse().unwrap());
        let mlx = ["int2", "int3", "int4", "int5", "int6", "int8"].into_iter().flat_map(|kind| {
            ["g32:F32", "g64:BF16", "g128:F16"]
                .into_iter()
                .flat_map(move |group| ["search", "minmax"].map(move |method| format!("mlx:{kind}:{group}:{method}")))
        });
        let mlx = mlx.map(|text| text.parse().unwrap());
        packed.chain(mlx).chain(Block::ALL.iter().copied().map(Encoding::Block)).collect()
    }

    /// Small floats, which hold small weights badly or not at all, and ignore importance.
    fn small_floats() -> impl Iterator<Item = Encoding> {
        let texts = ["mlx:mxfp4", "mlx:mxfp4:minmax", "mlx:mxfp8", "mlx:nvfp4", "mlx:nvfp4:minmax"];
        texts.into_iter().map(|text| text.parse().unwrap())
    }

    #[test]
    fn whatever_is_encoded_lies_within() {
        let rows = rows();
        let weights = list(&rows);
        let lengths = vec![Some(512); rows.len()];
        let importance = list(&[(0..512).map(|i| if i % 3 == 0 { 1.0 } else { 1e-6 }).collect()]);
        for encoding in encodings().into_iter().chain(small_floats()) {
            let back = |stored: &ArrayRef| decode_as(stored, &[Some(encoding)], &lengths).unwrap();
            let plain = back(&encode_as(&weights, &[Some(encoding)]).unwrap());
            let bound = ErrorBound::of_encoding(encoding, false).unwrap();
            bound
                .check(&weights, &plain)
                .unwrap_or_else(|error| panic!("{encoding}: {error}: {:?}", rows[error.row().unwrap()]));
            let weighted = back(&encode_as_weighted(&weights, &importance, &[Some(encoding)]).unwrap());
            let bound = ErrorBound::of_encoding(encoding, true).unwrap();
            bound.check(&weights, &weighted).unwrap_or_else(|error| panic!("{encoding}, weighted: {error}"));
        }
        for bits in Bits::ALL {
            let options = QuantizeOptions::new(bits);
            let decoded = dequantize(&quantize(&weights, &options.into()).unwrap()).unwrap();
            ErrorBound::of_options(&options)
                .check(&weights, &decoded)
                .unwrap_or_else(|error| panic!("{bits}: {error}"));
        }
    }

    #[test]
    fn a_group_of_zeros_and_a_scale_out_of_all_reason_are_beyond() {
        let weights = list(&[vec![1.0; 512], (0..512).map(|i| 1e-4 * (1.0 + 1e-3 * (i % 7) as f32)).collect()]);
        let lost = |x: f32| list(&[vec![1.0; 512], (0..512).map(|i| if i < 256 { 1e-4 } else { x }).collect()]);
        for encoding in encodings() {
            let bound = ErrorBound::of_encoding(encoding, false).unwrap();
            for x in [0.0, 1e30, -3e-4] {
                let error = bound.check(&weights, &lost(x)).err().map(|error| error.to_string());
                if bound.group_size.is_none() && x == 0.0 && encoding.dtype() == "INT2" {
                    continue;
                }
                let error = error.unwrap_or_else(|| panic!("{encoding}: {x} passes"));
                assert!(error.starts_with("row 1, element ") && error.contains("further"), "{error}");
            }
            let weighted = ErrorBound::of_encoding(encoding, true).unwrap();
            assert!(weighted.check(&weights, &lost(1e30)).is_err() && weighted.check(&weights, &lost(0.0)).is_ok());
        }
        let short = list(&[vec![1.0; 512]]);
        let bound = ErrorBound::of_encoding(Encoding::Block(Block::Q4_0), false).unwrap();
        assert!(bound.check(&weights, &short).is_err());
    }
}
