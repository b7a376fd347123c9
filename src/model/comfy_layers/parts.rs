//! The tensors with rows that each layout of a layer has: what is written and what is read.

use crate::{
    model::layer_part::Part,
    storage::{dtype::Dtype, row_layout::Order},
    types::ComfyLayout,
};

/// Returns the tensors of a layer of `rows` rows, in the order of the `shares` that a row is encoded as.
pub fn parts(layout: ComfyLayout, rows: usize, shares: &[usize]) -> Vec<Part> {
    let bytes = |number: usize| shares.get(number).copied().unwrap_or_default();
    let rows_of = |suffix, dtypes, shape| Part { suffix, dtypes, shape, order: Order::Rows };
    let codes = |dtypes| rows_of("weight", dtypes, vec![rows, bytes(0)]);
    let tiled = |dtypes| Part {
        suffix: "weight_scale",
        dtypes,
        shape: vec![rows.next_multiple_of(128), bytes(1).next_multiple_of(4)],
        order: Order::Tiled,
    };
    match layout {
        ComfyLayout::Int8 => vec![codes(&[Dtype::I8]), rows_of("weight_scale", &[Dtype::F32], vec![rows, 1])],
        ComfyLayout::W4a4 => vec![codes(&[Dtype::I8]), rows_of("weight_scale", &[Dtype::F32], vec![rows])],
        ComfyLayout::W4a8 | ComfyLayout::W6a8 => vec![
            codes(&[Dtype::I8]),
            rows_of("weight_s_rel", &[Dtype::F8_E4M3, Dtype::U8], vec![rows, bytes(1)]),
            rows_of("weight_s_channel", &[Dtype::F32], vec![rows]),
        ],
        ComfyLayout::Fp8 => vec![codes(&[Dtype::F8_E4M3])],
        ComfyLayout::Nvfp4 => vec![codes(&[Dtype::U8]), tiled(&[Dtype::F8_E4M3])],
        ComfyLayout::Mxfp8 => vec![codes(&[Dtype::F8_E4M3]), tiled(&[Dtype::U8, Dtype::F8_E8M0])],
    }
}
