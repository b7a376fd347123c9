//! The scales that models keep beside fp8 weights: finding them, and what of a row they multiply.

use std::collections::HashMap;

use super::tensor::{Scale, Tensor};

/// The side of the square blocks of a `_scale_inv` companion.
const BLOCK: usize = 128;

/// Finds the companion of every fp8 tensor.
pub(super) fn assign(tensors: &mut [Tensor], by_name: &HashMap<String, usize>) {
    for index in 0..tensors.len() {
        if tensors[index].dtype.is_fp8() {
            tensors[index].scale = find(&tensors[index], tensors, by_name);
        }
    }
}

/// `<m>.scale_weight` of `ComfyUI`, `<m>.weight_scale` of diffusers and `ModelOpt`, `<m>.weight_scale_inv` of `DeepSeek`.
fn find(weight: &Tensor, tensors: &[Tensor], by_name: &HashMap<String, usize>) -> Scale {
    let name = &weight.name;
    let comfy = name.strip_suffix(".weight").map(|module| format!("{module}.scale_weight"));
    let names: Vec<String> = [format!("{name}_scale"), format!("{name}_scale_inv")].into_iter().chain(comfy).collect();
    let present: Vec<&String> = names.iter().filter(|name| by_name.contains_key(*name)).collect();
    match present[..] {
        [] => Scale::Unknown(format!(
            "the scale of an {} tensor cannot be told: there is none of {}",
            weight.dtype,
            names.join(", ")
        )),
        [companion] => by_name.get(companion).map_or(Scale::None, |at| fit(weight, *at, &tensors[*at])),
        _ => Scale::Unknown(format!("its scale cannot be told: there are {present:?}")),
    }
}

/// How a companion applies, from its shape.
fn fit(weight: &Tensor, companion: usize, scale: &Tensor) -> Scale {
    let rows = match weight.shape.len() {
        0 | 1 => &[],
        rank @ (2 | 3) => &weight.shape[..rank - 1],
        _ => &weight.shape[..1],
    };
    let widens = scale.dtype.is_float() && !scale.dtype.is_fp8();
    if widens && scale.elements() == 1 {
        Scale::Tensor { companion }
    } else if weight.is_cut() {
        Scale::Unknown("its rows are too long for a scale of each".to_owned())
    } else if widens && trimmed(&scale.shape) == trimmed(rows) {
        Scale::Row { companion }
    } else if widens && scale.name.ends_with("_scale_inv") && blocks(&weight.shape).is_some_and(|of| of == scale.shape)
    {
        Scale::Block { companion }
    } else {
        Scale::Unknown(format!(
            "its scale cannot be told: '{}' is {} of shape {:?}, which fits neither all of {:?} nor its rows nor its \
             blocks of {BLOCK} x {BLOCK}",
            scale.name, scale.dtype, scale.shape, weight.shape
        ))
    }
}

/// A shape without the ones that it ends in.
fn trimmed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|dimension| **dimension == 1).count();
    &shape[..shape.len() - ones]
}

/// The shape of one number per block.
fn blocks(shape: &[usize]) -> Option<Vec<usize>> {
    if !matches!(shape.len(), 2 | 3) {
        return None;
    }
    let (leading, matrix) = shape.split_last_chunk::<2>()?;
    Some(leading.iter().copied().chain(matrix.map(|side| side.div_ceil(BLOCK))).collect())
}

/// The elements of a block companion that apply to a row, and how many elements of the row each covers.
pub(crate) fn blocks_of_row(weight: &Tensor, row: usize) -> (std::ops::Range<usize>, usize) {
    let height = weight.shape.len().checked_sub(2).map_or(1, |at| weight.shape[at]).max(1);
    let across = weight.row_length.div_ceil(BLOCK);
    let block_row = row / height * height.div_ceil(BLOCK) + row % height / BLOCK;
    (block_row * across..(block_row + 1) * across, BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{dtype::Dtype, safetensors::header::Entry};

    fn scale_of(shape: &[usize], companions: &[(&str, Dtype, &[usize])]) -> Scale {
        let entry = |name: &str, dtype, shape: &[usize]| {
            Tensor::new(Entry { name: name.into(), dtype, shape: shape.into(), range: 0..0 }, 0)
        };
        let mut tensors = vec![entry("m.weight", Dtype::F8_E4M3, shape)];
        tensors.extend(companions.iter().map(|(name, dtype, shape)| entry(name, *dtype, shape)));
        let by_name = tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        assign(&mut tensors, &by_name);
        tensors[0].scale.clone()
    }

    #[test]
    fn a_companion_applies_as_its_shape_says() {
        let (tensor, row, block) =
            (Scale::Tensor { companion: 1 }, Scale::Row { companion: 1 }, Scale::Block { companion: 1 });
        for (shape, name, of, expected) in [
            (&[300, 200][..], "m.scale_weight", &[][..], &tensor),
            (&[300, 200], "m.weight_scale", &[1], &tensor),
            (&[300, 200], "m.weight_scale", &[1, 1], &tensor),
            (&[300, 200], "m.weight_scale", &[300], &row),
            (&[300, 200], "m.weight_scale", &[300, 1], &row),
            (&[4, 300, 200], "m.weight_scale", &[4, 300, 1], &row),
            (&[8, 4, 3, 3], "m.weight_scale", &[8, 1, 1, 1], &row),
            (&[300, 200], "m.weight_scale_inv", &[3, 2], &block),
            (&[4, 300, 200], "m.weight_scale_inv", &[4, 3, 2], &block),
            (&[7], "m.weight_scale", &[1], &tensor),
        ] {
            assert_eq!(scale_of(shape, &[(name, Dtype::F32, of)]), *expected, "{name} {of:?}");
        }
    }

    #[test]
    fn a_scale_that_cannot_be_told_says_why() {
        for (companions, expected) in [
            (&[][..], "there is none of m.weight_scale, m.weight_scale_inv, m.scale_weight"),
            (&[("m.weight_scale", Dtype::F32, &[200][..])], "'m.weight_scale' is F32 of shape [200]"),
            (&[("m.weight_scale", Dtype::F32, &[3, 2])], "nor its blocks of 128 x 128"),
            (&[("m.weight_scale", Dtype::F8_E8M0, &[300, 1])], "'m.weight_scale' is F8_E8M0"),
            (&[("m.weight_scale", Dtype::F32, &[]), ("m.scale_weight", Dtype::F32, &[])], "there are"),
        ] {
            let Scale::Unknown(reason) = scale_of(&[300, 200], companions) else { panic!("{companions:?}") };
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn a_row_finds_its_blocks() {
        let entry = Entry { name: "w".into(), dtype: Dtype::F8_E4M3, shape: vec![2, 200, 300], range: 0..0 };
        let tensor = Tensor::new(entry, 0);
        assert_eq!(blocks_of_row(&tensor, 0).0, 0..3);
        assert_eq!(blocks_of_row(&tensor, 128).0, 3..6);
        assert_eq!(blocks_of_row(&tensor, 200).0, 6..9);
        assert_eq!(blocks_of_row(&tensor, 399).0, 9..12);
    }
}
