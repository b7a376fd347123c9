//! The tensors of a layer, and its marker.

use serde_json::{Value, json};

use crate::{
    model::{
        comfy_layers::{MARKER, parts},
        layer_part::Part,
        tensor::Tensor,
    },
    plan::formats::shards::{Content, NewTensor},
    storage::{dtype::Dtype, error::IoError},
    types::{Comfy, ComfyLayout},
};

/// Returns the object that says how a layer decodes.
pub fn marker(layer: Comfy) -> Value {
    let rotation = layer.rotation;
    match layer.layout {
        ComfyLayout::Int8 if rotation > 1 => {
            json!({ "format": "int8_tensorwise", "convrot": true, "convrot_groupsize": rotation })
        }
        ComfyLayout::Int8 => json!({ "format": "int8_tensorwise" }),
        ComfyLayout::W4a8 | ComfyLayout::W6a8 => json!({
            "format": "asym_w4a8_int8",
            "group_size": layer.group_size,
            "convrot": true,
            "convrot_groupsize": rotation,
        }),
        ComfyLayout::W4a4 => {
            json!({ "format": "convrot_w4a4", "convrot_groupsize": rotation, "quant_group_size": 64 })
        }
        ComfyLayout::Fp8 => json!({ "format": "float8_e4m3fn" }),
        ComfyLayout::Nvfp4 => json!({ "format": "nvfp4" }),
        ComfyLayout::Mxfp8 => json!({ "format": "mxfp8" }),
    }
}

/// Returns the tensors of a layer. Those with rows are in the order of the shares of an encoded row.
pub fn of_layer(source: usize, module: &str, tensor: &Tensor, layer: Comfy) -> Result<Vec<NewTensor>, IoError> {
    let (rows, length) = (tensor.rows, tensor.row_length);
    let shares = layer.shares(length).ok_or_else(|| {
        IoError::Request(format!("'{}' has rows of {length}, which {} does not have", tensor.name, layer.layout))
    })?;
    let named = |suffix: &str| format!("{module}.{suffix}");
    let rows_of = |(part, row_bytes): (Part, usize)| NewTensor {
        source,
        name: named(part.suffix),
        dtype: part.dtypes[0],
        shape: part.shape,
        content: Content::Rows { row_bytes, order: part.order },
    };
    let mut tensors: Vec<NewTensor> = parts(layer.layout, rows, &shares).into_iter().zip(shares).map(rows_of).collect();
    let mut known = |name: String, dtype, shape, bytes| {
        tensors.push(NewTensor { source, name, dtype, shape, content: Content::Known(bytes) });
    };
    let scale = layer.scale.to_le_bytes().to_vec();
    match layer.layout {
        ComfyLayout::Fp8 => known(named("weight_scale"), Dtype::F32, Vec::new(), scale),
        ComfyLayout::Nvfp4 => known(named("weight_scale_2"), Dtype::F32, Vec::new(), scale),
        ComfyLayout::W4a8 => {
            let levels = layer.level_values().iter().flat_map(|level| level.to_le_bytes()).collect();
            known(named("weight_codebook"), Dtype::F32, vec![16], levels);
        }
        _ => {}
    }
    let text = marker(layer).to_string().into_bytes();
    known(format!("{module}{MARKER}"), Dtype::U8, vec![text.len()], text);
    Ok(tensors)
}
