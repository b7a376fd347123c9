//! `encode_as`: rows of weights to the bytes that a file format stores.

use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBufferBuilder;

use super::{
    ComputeError,
    arrays::{
        builder::BytesBuilder,
        encoding::{check_count, for_row, row_bytes},
        floats::{narrow, widen},
        importance::Importance,
        rows::{Rows, finite_absmax},
    },
    comfy, mlx,
};
use crate::{
    kernels::{
        affine::{affine, affine_encode},
        affine_extreme::{GroupParams, affine_better, affine_extreme},
        extreme,
        gguf::encode_blocks,
    },
    types::{Block, Encoding, Float, Method, Packed},
};

/// Encodes each row of `weights`: `Binary`, each row by itself.
///
/// `encodings` holds one for all rows, or one for each. A null row, and a row without encoding, gives null.
///
/// # Errors
/// Returns an error if `weights` is no list of floats, a row's length does not fit its encoding, a weight is beyond what
/// the encoding holds, or the result would pass what one array holds. Floats keep infinities and NaN; in blocks and codes
/// they are errors.
///
/// # Example
/// ```
/// use arrow_array::{ListArray, cast::AsArray, types::Float32Type};
/// use arrow_quant::{compute, types::{Encoding, Float}};
///
/// let weights = ListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(1.0f32), Some(-2.5)])]);
/// let encoding = [Some(Encoding::Float(Float::BF16))];
/// let stored = compute::encode_as(&weights, &encoding)?;
/// assert_eq!(stored.as_binary::<i32>().value(0), [0x80, 0x3f, 0x20, 0xc0]);
/// assert_eq!(compute::decode_as(&stored, &encoding, &[Some(2)])?.as_list::<i32>(), &weights);
/// # Ok::<(), compute::ComputeError>(())
/// ```
pub fn encode_as(weights: &dyn Array, encodings: &[Option<Encoding>]) -> Result<ArrayRef, ComputeError> {
    encode_rows(weights, None, encodings)
}

/// Encodes as [`encode_as`] does, but searches scales for the least squared error weighted by the importance of each input
/// channel. Scales are searched in blocks of 256, in packed codes and in integers of MLX; floats, ranges and blocks of 32 ignore the importance.
///
/// `importance` is a list array of one row, for all weights, or of one row for each row of `weights`, as long as that.
/// Null means that all weigh alike.
///
/// # Errors
/// Returns the errors of [`encode_as`]; also an error if an importance is negative, infinite, NaN or null, or a row of it has
/// another length.
pub fn encode_as_weighted(
    weights: &dyn Array,
    importance: &dyn Array,
    encodings: &[Option<Encoding>],
) -> Result<ArrayRef, ComputeError> {
    encode_rows(weights, Some(importance), encodings)
}

fn encode_rows(
    weights: &dyn Array,
    importance: Option<&dyn Array>,
    encodings: &[Option<Encoding>],
) -> Result<ArrayRef, ComputeError> {
    let rows = Rows::try_new(weights, "weights")?;
    let mut importance = Importance::try_new(importance, rows.len())?;
    check_count("encodings", encodings.len(), rows.len())?;
    let mut builder = BytesBuilder::with_capacity(rows.len(), 0);
    let mut nulls = NullBufferBuilder::new(rows.len());
    let (mut encoder, mut widened) = (Encoder::default(), Vec::new());
    for row in 0..rows.len() {
        let (Some(weights), Some(encoding)) = (rows.row(row, &mut widened)?, for_row(encodings, row)) else {
            builder.push(0)?;
            nulls.append_null();
            continue;
        };
        let out = builder.push(row_bytes(encoding, weights.len())?)?;
        encoder.row(encoding, weights, importance.row(row, weights.len())?, row, out)?;
        nulls.append_non_null();
    }
    builder.finish(nulls.finish())
}

/// Encodes rows one by one; its buffers are reused from row to row.
#[derive(Default)]
pub struct Encoder {
    rescaled: Vec<f32>,
    scales: Vec<f32>,
    /// The scales and zero points that the search found for a row near the ends of its float.
    searched: (Vec<f32>, Vec<u8>),
}

impl Encoder {
    /// Encodes a row into `out`, which has [`Encoding::row_bytes`]; `row` is its number in errors. `importance` as for
    /// [`encode_as_weighted`].
    ///
    /// # Errors
    /// Returns an error if a weight is not finite in codes or blocks, or beyond what the encoding holds.
    pub fn row(
        &mut self,
        encoding: Encoding,
        weights: &[f32],
        importance: Option<&[f32]>,
        row: usize,
        out: &mut [u8],
    ) -> Result<(), ComputeError> {
        match encoding {
            Encoding::Float(float) => narrow(float, weights, row, out),
            Encoding::Packed(packed) => self.packed(packed, weights, importance, row, out),
            Encoding::Block(block) => blocks(block, weights, importance, row, out),
            Encoding::Comfy(layout) => comfy::encode(layout, weights, row, (&mut self.rescaled, &mut self.scales), out),
            Encoding::Mlx(layout) => {
                let buffers = (&mut self.rescaled, &mut self.scales, &mut self.searched.0);
                mlx::encode(layout, weights, importance, row, buffers, out)
            }
        }
    }

    fn packed(
        &mut self,
        packed: Packed,
        weights: &[f32],
        importance: Option<&[f32]>,
        row: usize,
        out: &mut [u8],
    ) -> Result<(), ComputeError> {
        let groups = packed.groups(weights.len()).unwrap_or(0);
        let (codes, rest) = out.split_at_mut(packed.code_bytes(weights.len()).min(out.len()));
        let (stored, zero_points) = rest.split_at_mut((groups * packed.scale.bytes()).min(rest.len()));
        let mut zero_points = (!packed.symmetric).then_some(zero_points);
        let (bits, group_size) = (packed.bits.get(), packed.group_size.map_or(usize::MAX, |size| size as usize));
        self.scales.clear();
        self.scales.resize(groups, 0.0);
        let absmax = finite_absmax(weights, row)?;
        let power = extreme::power(absmax);
        let limit = match packed.scale {
            Float::F16 => 65504.0,
            Float::BF16 => f32::from_bits(0x7f7f_0000),
            Float::F32 | Float::F64 => f32::MAX,
        };
        if absmax > limit
            && let Some(element) = weights.iter().position(|weight| weight.abs() > limit)
        {
            let value = weights[element];
            return Err(ComputeError::TooLarge { row, element, value, float: packed.scale.name() });
        }
        let method = (packed.scale, packed.method);
        let mut prepared = weights;
        if power == 1.0 && absmax < 0.5 * limit {
            let zero_points = zero_points.as_deref_mut();
            affine(weights, importance, bits, group_size, method, &mut self.scales, zero_points);
        } else {
            self.rescaled.resize(weights.len(), 0.0);
            extreme::rescale(weights, power, &mut self.rescaled);
            prepared = &self.rescaled;
            let beside = |x, up| beside(packed.scale, x, up);
            affine_extreme(weights, bits, group_size, limit, beside, &mut self.scales, zero_points.as_deref_mut());
            if packed.method == Method::Search {
                // The search knows nothing of the ends: what it found at a moderate size is kept where it loses less.
                let (scales, zeros) = &mut self.searched;
                scales.resize(groups, 0.0);
                zeros.resize(groups, 0);
                let mut codes = (!packed.symmetric).then_some(&mut zeros[..]);
                affine(prepared, importance, bits, group_size, method, scales, codes.as_deref_mut());
                for scale in scales.iter_mut() {
                    *scale = (*scale / power).min(limit);
                }
                narrow(packed.scale, scales, row, stored)?;
                widen(packed.scale, stored, scales);
                let mut params = GroupParams { scales: &mut self.scales, zero_points: zero_points.as_deref_mut() };
                let others = GroupParams { scales, zero_points: codes };
                affine_better(weights, importance, bits, group_size, limit, &mut params, &others);
            }
        }
        narrow(packed.scale, &self.scales, row, stored)?;
        widen(packed.scale, stored, &mut self.scales);
        affine_encode(prepared, power, bits, group_size, &self.scales, zero_points.as_deref(), codes);
        Ok(())
    }
}

/// Returns the stored float next to a number that is not negative: the least of at least it, or the largest of at most
/// it.
fn beside(float: Float, x: f64, up: bool) -> f32 {
    let width = float.bytes().min(4);
    let mut bytes = [0; 4];
    // What is too large is infinite here, and finite one step below.
    let _ = narrow(float, &[x as f32], 0, &mut bytes[..width]);
    let mut value = [0.0];
    for _ in 0..2 {
        widen(float, &bytes[..width], &mut value);
        let near = f64::from(value[0]);
        // The numbers of a float that are not negative follow each other as their bits do.
        let bits = u32::from_le_bytes(bytes);
        bytes = match (up, near < x, near > x) {
            (true, true, _) => bits + 1,
            (false, _, true) => bits - 1,
            _ => break,
        }
        .to_le_bytes();
    }
    value[0]
}

/// The largest f16, as which blocks store scales and minimums.
const HALF_MOST: f32 = 65504.0;

fn blocks(
    block: Block,
    weights: &[f32],
    importance: Option<&[f32]>,
    row: usize,
    out: &mut [u8],
) -> Result<(), ComputeError> {
    fits_blocks(block, weights, row)?;
    encode_blocks(block, weights, importance, out);
    Ok(())
}

/// Checks that blocks hold the weights of a row; `row` is its number in errors.
///
/// # Errors
/// Returns an error if a weight is not finite, or beyond what a half holds.
fn fits_blocks(block: Block, weights: &[f32], row: usize) -> Result<(), ComputeError> {
    if finite_absmax(weights, row)? > HALF_MOST
        && let Some(element) = weights.iter().position(|weight| weight.abs() > HALF_MOST)
    {
        return Err(ComputeError::TooLarge { row, element, value: weights[element], float: block.name() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow_array::{
        BinaryArray, ListArray,
        cast::AsArray,
        types::{Float32Type, Float64Type},
    };

    use super::*;
    use crate::compute::decode_as;

    fn list(rows: &[Option<&[f32]>]) -> ListArray {
        ListArray::from_iter_primitive::<Float32Type, _, _>(
            rows.iter().map(|row| row.map(|row| row.iter().copied().map(Some).collect::<Vec<_>>())),
        )
    }

    #[test]
    fn floats_that_fit_come_back_and_nulls_stay() {
        let weights = list(&[Some(&[1.0, -0.0, 65504.0, f32::INFINITY]), None, Some(&[])]);
        for float in Float::ALL.iter().copied() {
            let encoding = [Some(Encoding::Float(float))];
            let stored = encode_as(&weights, &encoding).unwrap();
            assert_eq!(stored.as_binary::<i32>().value(0).len(), 4 * float.bytes());
            let back = decode_as(&stored, &encoding, &[Some(4), None, Some(0)]).unwrap();
            let (back, weights) = (back.as_list::<i32>(), &weights);
            if float == Float::BF16 {
                assert_eq!(back.value(0).as_primitive::<Float32Type>().value(2), 65536.0);
            } else {
                assert_eq!(back, weights);
            }
            assert!(back.is_null(1) && back.value(2).is_empty());
        }
        assert_eq!(encode_as(&weights, &[None]).unwrap().null_count(), 3);
    }

    #[test]
    fn a_weight_beyond_the_float_is_an_error_that_names_it() {
        let weights = list(&[Some(&[0.0]), Some(&[1.0, 65520.0])]);
        let error = encode_as(&weights, &[Some(Encoding::Float(Float::F16))]).unwrap_err();
        assert_eq!(error.row(), Some(1));
        assert_eq!(error.to_string(), "row 1, element 1 is 65520, which is beyond what F16 holds");
        assert!(encode_as(&list(&[Some(&[f32::MAX])]), &[Some(Encoding::Float(Float::BF16))]).is_err());
        let wide = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(0.5)])]);
        assert!(encode_as(&wide, &[Some(Encoding::Float(Float::F64))]).is_ok());
    }

    #[test]
    fn the_float_beside_a_number_is_the_next_one() {
        for (float, x, up, down) in [
            (Float::F16, 1.0001, 1.000_976_6, 1.0),
            (Float::F16, 1e-9, 2f32.powi(-24), 0.0),
            (Float::BF16, 1.0, 1.0, 1.0),
            (Float::BF16, f64::from(f32::MAX), f32::INFINITY, 3.389_531_4e38),
            (Float::F32, 1e-46, f32::from_bits(1), 0.0),
            (Float::F32, 0.1, 0.1, 0.099_999_994),
        ] {
            assert_eq!((beside(float, x, true), beside(float, x, false)), (up, down), "{float} {x}");
        }
    }

    #[test]
    fn packed_rows_are_codes_scales_and_zero_points() {
        // -8 * 0.5 to 7 * 0.5: every code of four bits, with a scale that bfloat16 has.
        let row: Vec<f32> = (-8..8).map(|q| q as f32 * 0.5).collect();
        let encoding: Encoding = "int4:g8:symmetric:BF16:minmax".parse().unwrap();
        let stored = encode_as(&list(&[Some(&row)]), &[Some(encoding)]).unwrap();
        let stored = stored.as_binary::<i32>().value(0);
        assert_eq!(stored[8..10], [0x00, 0x3f]);
        assert_eq!(stored.len(), 8 + 2 * 2);
        let encoding: Encoding = "int4:channel:asymmetric:F16:minmax".parse().unwrap();
        let asymmetric = encode_as(&list(&[Some(&row)]), &[Some(encoding)]).unwrap();
        let stored = asymmetric.as_binary::<i32>().value(0);
        assert_eq!(stored, [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 0x00, 0x38, 0x08]);
        let back = decode_as(&asymmetric, &[Some(encoding)], &[Some(16)]).unwrap();
        assert_eq!(back.as_list::<i32>().value(0).as_primitive::<Float32Type>().values(), &row[..]);
    }

    #[test]
    fn packed_rows_of_every_kind_come_back_near_and_finite() {
        let rows: [&[f32]; 5] =
            [&[0.0; 8], &[1e-42; 8], &[3e38, -3e38, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[0.25; 8], &[-1.0; 8]];
        for text in [
            "int8:g4:symmetric:F32",
            "int8:channel:asymmetric:BF16",
            "int4:g8:asymmetric:F32",
            "int2:g4:symmetric:BF16",
        ] {
            let encoding = [Some(text.parse().unwrap())];
            for row in rows {
                let stored = encode_as(&list(&[Some(row)]), &encoding).unwrap();
                let back = decode_as(&stored, &encoding, &[Some(8)]).unwrap();
                let back = back.as_list::<i32>().value(0);
                let back = back.as_primitive::<Float32Type>().values();
                let most = row.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (x, y) in row.iter().zip(back) {
                    // Bfloat16 has nothing between 0 and 9e-41.
                    assert!(y.is_finite() && (x - y).abs() <= 0.51 * most + 1e-40, "{text} {row:?} {back:?}");
                }
            }
        }
    }

    /// Returns the signal-to-noise ratio of a row in dB, and the largest magnitude that comes back.
    fn loss(row: &[f32], text: &str) -> (f64, f32) {
        let encoding = [Some(text.parse().unwrap())];
        let stored = encode_as(&list(&[Some(row)]), &encoding).unwrap();
        let back = decode_as(&stored, &encoding, &[Some(row.len())]).unwrap();
        let back = back.as_list::<i32>().value(0);
        let back = back.as_primitive::<Float32Type>().values();
        let noise: f64 = row.iter().zip(back).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
        let power: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum();
        (10.0 * (power / noise).log10(), back.iter().fold(0.0, |most, y| most.max(y.abs())))
    }

    #[test]
    fn weights_beyond_the_float_of_the_scale_are_errors_and_those_up_to_it_come_back() {
        for text in ["int2:g4:symmetric:F16", "int4:g4:asymmetric:F16:minmax", "int8:channel:symmetric:F16"] {
            let error =
                encode_as(&list(&[Some(&[0.0; 4]), Some(&[1.0, -1e6, 2.0, 3.0])]), &[Some(text.parse().unwrap())]);
            let error = error.unwrap_err();
            assert_eq!(error.row(), Some(1));
            assert_eq!(error.to_string(), "row 1, element 1 is -1000000, which is beyond what F16 holds");
        }
        assert!(encode_as(&list(&[Some(&[f32::MAX; 4])]), &[Some("int4:g4:symmetric:BF16".parse().unwrap())]).is_err());
        for bits in [2, 3, 4, 8] {
            for kind in ["symmetric", "asymmetric"] {
                for most in [30_000.0, 33_000.0, 60_000.0, 65_504.0] {
                    for method in ["search", "minmax"] {
                        for row in [[most, 1.0, 2.0, 3.0], [-most, 1.0, 2.0, 3.0], [-most, 0.0, 0.0, most]] {
                            let text = format!("int{bits}:g4:{kind}:F16:{method}");
                            let (db, largest) = loss(&row, &text);
                            // Of two ends as far from 0, two bits have but one code for each.
                            let least = if bits == 2 { 6.0 } else { 15.0 };
                            assert!(db > least && largest <= 65_504.0, "{text} {row:?}: {db} dB, {largest}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn half_precision_scales_that_are_denormal_hold_small_weights() {
        for (text, least) in [
            ("int8:channel:symmetric:F16", [36.0, 28.0, 20.0]),
            ("int8:g128:asymmetric:F16", [36.0, 28.0, 20.0]),
            ("int4:g32:symmetric:F16", [19.0, 18.0, 15.0]),
            ("int4:g8:asymmetric:F16", [19.0, 18.0, 15.0]),
            ("Q4_0", [19.0, 18.0, 15.0]),
            ("Q4_1", [20.0, 18.0, 15.0]),
            ("Q5_0", [26.0, 24.0, 17.0]),
            ("Q5_1", [26.0, 24.0, 17.0]),
            ("Q8_0", [41.0, 34.0, 20.0]),
            ("Q2_K", [9.0, 7.0, 5.0]),
            ("Q3_K", [15.0, 13.0, 10.0]),
            ("Q4_K", [20.0, 18.0, 14.0]),
            ("Q5_K", [26.0, 22.0, 16.0]),
            ("Q6_K", [32.0, 26.0, 16.0]),
        ] {
            let normal = crate::testing::samples::normal(1024, 3);
            for (deviation, least) in [2e-5, 1e-6, 3e-7].into_iter().zip(least) {
                let row: Vec<f32> = normal.iter().map(|x| x * deviation).collect();
                let (db, _) = loss(&row, text);
                assert!(db > least, "{text}, a standard deviation of {deviation:e}: {db} dB");
            }
        }
    }

    #[test]
    fn rows_that_are_tiny_or_huge_are_searched() {
        let normal = crate::testing::samples::normal(512, 4);
        for text in ["int3:g32:asymmetric:F32", "int4:g64:symmetric:BF16"] {
            let (usual, _) = loss(&normal, &format!("{text}:search"));
            for factor in [1e-33, 1e-20, 1e-10, 1e12, 3e37] {
                let row: Vec<f32> = normal.iter().map(|x| x * factor).collect();
                let [search, range] = ["search", "minmax"].map(|method| loss(&row, &format!("{text}:{method}")).0);
                assert!(search > range && search > usual - 0.1, "{text}, {factor:e}: {search} {range} {usual}");
            }
        }
    }

    #[test]
    fn importance_moves_the_error_to_where_it_matters_less() {
        let row: Vec<f32> = (0..512).map(|i| ((i * i) as f32 * 0.37).sin() * 0.05).collect();
        let importance: Vec<f32> = (0..512).map(|i| if i % 7 == 0 { 1.0 } else { 0.01 }).collect();
        let (weights, weighted) = (list(&[Some(&row), Some(&row)]), list(&[Some(&importance)]));
        for text in ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "int4:g32:asymmetric:BF16", "int2:g64:symmetric:F16"] {
            let encoding = [Some(text.parse().unwrap())];
            let plain = encode_as(&weights, &encoding).unwrap();
            let error = |stored: &ArrayRef| -> f64 {
                let back = decode_as(stored, &encoding, &[Some(512)]).unwrap();
                let back = back.as_list::<i32>().value(1);
                let errors = row.iter().zip(back.as_primitive::<Float32Type>().values()).zip(&importance);
                errors.map(|((x, y), weight)| f64::from(*weight) * f64::from(x - y).powi(2)).sum()
            };
            let stored = encode_as_weighted(&weights, &weighted, &encoding).unwrap();
            assert!(error(&stored) < error(&plain), "{text}: {} {}", error(&stored), error(&plain));
            assert_eq!(&encode_as_weighted(&weights, &list(&[None]), &encoding).unwrap(), &plain);
        }
        let encoding = [Some(Encoding::Block(Block::Q8_0))];
        assert_eq!(
            &encode_as_weighted(&weights, &weighted, &encoding).unwrap(),
            &encode_as(&weights, &encoding).unwrap()
        );
        let short = list(&[Some(&importance[1..])]);
        let error = encode_as_weighted(&weights, &short, &encoding).unwrap_err().to_string();
        assert_eq!(error, "row 0: importance has 511 elements where 512 are expected");
    }

    #[test]
    fn bytes_of_another_length_are_refused() {
        let stored = BinaryArray::from_vec(vec![&[0, 0, 0]]);
        let error = decode_as(&stored, &[Some(Encoding::Float(Float::BF16))], &[Some(2)]).unwrap_err();
        assert_eq!(error.to_string(), "row 0: data has 3 elements where 4 are expected");
    }
}
