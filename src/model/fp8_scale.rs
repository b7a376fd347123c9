//! The scales that models keep beside fp8 weights: finding them, and what of a row they multiply.

use std::collections::HashMap;

use super::tensor::{Scale, Storage, Tensor};
use crate::storage::dtype::Dtype;

/// The sides of the blocks that share a scale where nothing else is said and the shapes fit.
const BLOCK: [usize; 2] = [128, 128];

/// The width of the blocks of MX, whose scales are exponents.
const MX: usize = 32;

/// The ends of the names of scales, after the name of a tensor: those of diffusers, `ModelOpt` and compressed-tensors, and of
/// `DeepSeek`.
const SCALES: [&str; 2] = ["_scale", "_scale_inv"];

/// The same after `<m>` of a tensor `<m>.weight`: those of `ComfyUI`, and of `DeepSeek`'s own code.
const SCALES_OF_MODULE: [&str; 2] = [".scale_weight", ".scale"];

/// The ends of the names of companions that mean nothing once `<m>.weight` is decoded, after `<m>`.
const COMPANIONS: [&str; 10] = [
    ".input_scale",
    ".scale_input",
    ".input_scale_ub",
    ".input_zero_point",
    ".input_global_scale",
    ".output_scale",
    ".comfy_quant",
    ".k_scale",
    ".v_scale",
    ".kv_scale",
];

/// Tensors that say of the whole file that it is fp8, by the last part of their names.
const MARKERS: [&str; 1] = ["scaled_fp8"];

/// Finds the companion of every fp8 tensor. `said` are the height and width of the blocks that share a scale, where the
/// configuration says them.
pub(super) fn assign(tensors: &mut [Tensor], by_name: &HashMap<String, usize>, said: Option<[usize; 2]>) {
    for index in 0..tensors.len() {
        if tensors[index].dtype.is_fp8() && !is_marker(&tensors[index].name) {
            tensors[index].scale = find(&tensors[index], tensors, by_name, said);
        }
    }
}

fn is_marker(name: &str) -> bool {
    MARKERS.contains(&name.rsplit('.').next().unwrap_or(name))
}

/// Tells for each tensor whether it means nothing once all fp8 and packed weights are decoded.
pub(super) fn companions(tensors: &[Tensor], by_name: &HashMap<String, usize>) -> Vec<bool> {
    let mut found = vec![false; tensors.len()];
    let mut mark = |name: &str| {
        if let Some(at) = by_name.get(name) {
            found[*at] = true;
        }
    };
    for tensor in tensors {
        let packed = matches!(tensor.storage, Storage::Encoded { .. }) && !tensor.is_in_blocks();
        if is_marker(&tensor.name) && tensor.dtype.is_fp8() {
            mark(&tensor.name);
        }
        let Some(module) = tensor.name.strip_suffix(".weight") else { continue };
        if packed || !matches!(tensor.scale, Scale::None | Scale::Unknown(_)) {
            for suffix in COMPANIONS {
                mark(&format!("{module}{suffix}"));
            }
            // Key and value caches are scaled in the attention around their projections.
            let attention = module.rsplit_once('.').map_or("", |(attention, _)| attention);
            for suffix in [".k_scale", ".v_scale", ".kv_scale"] {
                mark(&format!("{attention}{suffix}"));
            }
        }
    }
    for companion in tensors.iter().filter_map(|tensor| tensor.scale.companion()) {
        found[companion] = true;
    }
    found
}

fn find(weight: &Tensor, tensors: &[Tensor], by_name: &HashMap<String, usize>, said: Option<[usize; 2]>) -> Scale {
    let of_tensor = SCALES.iter().map(|suffix| format!("{}{suffix}", weight.name));
    let module = weight.name.strip_suffix(".weight");
    let of_module = module.into_iter().flat_map(|module| SCALES_OF_MODULE.map(|suffix| format!("{module}{suffix}")));
    let names: Vec<String> = of_tensor.chain(of_module).collect();
    let present: Vec<&String> = names.iter().filter(|name| by_name.contains_key(*name)).collect();
    match present[..] {
        [] => Scale::One,
        [companion] => by_name.get(companion).map_or(Scale::None, |at| fit(weight, *at, &tensors[*at], said)),
        _ => Scale::Unknown(format!("its scale cannot be told: there are {present:?}")),
    }
}

/// Returns how a companion applies, from its shape.
fn fit(weight: &Tensor, companion: usize, scale: &Tensor, said: Option<[usize; 2]>) -> Scale {
    let rows = match weight.shape.len() {
        0 | 1 => &[],
        rank @ (2 | 3) => &weight.shape[..rank - 1],
        _ => &weight.shape[..1],
    };
    let widens = scale.dtype.is_float() && !scale.dtype.is_fp8() || scale.dtype == Dtype::F8_E8M0;
    if widens && scale.elements() == 1 {
        return Scale::Tensor { companion };
    }
    if weight.is_cut() {
        return Scale::Unknown("its rows are too long for a scale of each".to_owned());
    }
    if widens && trimmed(&scale.shape) == trimmed(rows) {
        return Scale::Row { companion };
    }
    let sides =
        said.into_iter().chain([BLOCK]).find(|sides| blocks(&weight.shape, *sides).as_ref() == Some(&scale.shape));
    match sides.or_else(|| even_blocks(&weight.shape, &scale.shape)) {
        // Some write exponents as plain bytes.
        Some(sides) if widens || (scale.dtype == Dtype::U8 && sides == [1, MX]) => Scale::Block { companion, sides },
        _ => Scale::Unknown(format!(
            "its scale cannot be told: '{}' is {} of shape {:?}, which fits neither all of {:?} nor its rows nor blocks \
             of it",
            scale.name, scale.dtype, scale.shape, weight.shape
        )),
    }
}

/// A shape without the ones that it ends in.
fn trimmed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|dimension| **dimension == 1).count();
    &shape[..shape.len() - ones]
}

/// The shape of one number per block.
fn blocks(shape: &[usize], sides: [usize; 2]) -> Option<Vec<usize>> {
    if !matches!(shape.len(), 2 | 3) {
        return None;
    }
    let (leading, matrix) = shape.split_last_chunk::<2>()?;
    let across = matrix.iter().zip(sides).map(|(length, side)| length.div_ceil(side));
    Some(leading.iter().copied().chain(across).collect())
}

/// The sides of blocks that divide a shape evenly into as many as there are scales.
fn even_blocks(shape: &[usize], scales: &[usize]) -> Option<[usize; 2]> {
    let ([.., height, width], [.., down, across]) = (shape, scales) else { return None };
    let even = |length: usize, count: usize| (count > 0 && length.is_multiple_of(count)).then(|| length / count);
    let sides = [even(*height, *down)?, even(*width, *across)?];
    (blocks(shape, sides)? == scales).then_some(sides)
}

/// The elements of a block companion that apply to a row, and how many elements of the row each covers.
pub(crate) fn blocks_of_row(weight: &Tensor, row: usize, [tall, wide]: [usize; 2]) -> (std::ops::Range<usize>, usize) {
    let height = weight.shape.len().checked_sub(2).map_or(1, |at| weight.shape[at]).max(1);
    let across = weight.row_length.div_ceil(wide);
    let block_row = row / height * height.div_ceil(tall) + row % height / tall;
    (block_row * across..(block_row + 1) * across, wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{dtype::Dtype, safetensors::header::Entry};

    fn scale_of(shape: &[usize], companions: &[(&str, Dtype, &[usize])], said: Option<[usize; 2]>) -> Scale {
        let entry = |name: &str, dtype, shape: &[usize]| {
            Tensor::new(Entry { name: name.into(), dtype, shape: shape.into(), range: 0..0 }, 0)
        };
        let mut tensors = vec![entry("m.weight", Dtype::F8_E4M3, shape)];
        tensors.extend(companions.iter().map(|(name, dtype, shape)| entry(name, *dtype, shape)));
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        assign(&mut tensors, &by_name, said);
        tensors[0].scale.clone()
    }

    #[test]
    fn a_companion_applies_as_its_shape_says() {
        let (tensor, row, block) =
            (Scale::Tensor { companion: 1 }, Scale::Row { companion: 1 }, |sides| Scale::Block { companion: 1, sides });
        let (f32, e8m0, said) = (Dtype::F32, Dtype::F8_E8M0, Some([64, 256]));
        for (shape, name, dtype, of, said, expected) in [
            (&[300, 200][..], "m.scale_weight", f32, &[][..], None, tensor.clone()),
            (&[300, 200], "m.weight_scale", f32, &[1], None, tensor.clone()),
            (&[300, 200], "m.weight_scale", f32, &[1, 1], None, tensor.clone()),
            (&[300, 200], "m.weight_scale", f32, &[300], None, row.clone()),
            (&[300, 200], "m.weight_scale", f32, &[300, 1], None, row.clone()),
            (&[4, 300, 200], "m.weight_scale", f32, &[4, 300, 1], None, row.clone()),
            (&[8, 4, 3, 3], "m.weight_scale", f32, &[8, 1, 1, 1], None, row),
            (&[300, 200], "m.weight_scale_inv", f32, &[3, 2], None, block([128, 128])),
            (&[300, 200], "m.weight_scale", Dtype::BF16, &[3, 2], None, block([128, 128])),
            (&[4, 300, 200], "m.weight_scale_inv", f32, &[4, 3, 2], None, block([128, 128])),
            (&[300, 200], "m.weight_scale", f32, &[5, 1], said, block([64, 256])),
            (&[256, 512], "m.weight_scale", f32, &[4, 8], None, block([64, 64])),
            (&[256, 512], "m.weight_scale", e8m0, &[256, 16], None, block([1, 32])),
            (&[256, 512], "m.weight_scale", Dtype::U8, &[256, 16], None, block([1, 32])),
            (&[256, 512], "m.scale", e8m0, &[2, 4], None, block([128, 128])),
            (&[7], "m.weight_scale", f32, &[1], None, tensor),
            (&[7], "m.input_scale", f32, &[1], None, Scale::One),
        ] {
            assert_eq!(scale_of(shape, &[(name, dtype, of)], said), expected, "{name} {of:?}");
        }
    }

    #[test]
    fn a_scale_that_cannot_be_told_says_why() {
        for (companions, expected) in [
            (&[("m.weight_scale", Dtype::F32, &[200][..])][..], "'m.weight_scale' is F32 of shape [200]"),
            (&[("m.weight_scale", Dtype::F32, &[7, 2])], "nor its rows nor blocks of it"),
            (&[("m.weight_scale", Dtype::F8_E4M3, &[300, 1])], "'m.weight_scale' is F8_E4M3"),
            (&[("m.weight_scale", Dtype::U8, &[3, 2])], "'m.weight_scale' is U8"),
            (&[("m.weight_scale", Dtype::F32, &[]), ("m.scale_weight", Dtype::F32, &[])], "there are"),
        ] {
            let Scale::Unknown(reason) = scale_of(&[300, 200], companions, None) else { panic!("{companions:?}") };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_row_finds_its_blocks() {
        let entry = Entry { name: "w".into(), dtype: Dtype::F8_E4M3, shape: vec![2, 200, 300], range: 0..0 };
        let tensor = Tensor::new(entry, 0);
        assert_eq!(blocks_of_row(&tensor, 0, BLOCK).0, 0..3);
        assert_eq!(blocks_of_row(&tensor, 128, BLOCK).0, 3..6);
        assert_eq!(blocks_of_row(&tensor, 200, BLOCK).0, 6..9);
        assert_eq!(blocks_of_row(&tensor, 399, BLOCK).0, 9..12);
    }
}
