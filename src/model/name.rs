//! A tensor's name to its layer number and module.

/// Returns the layer and the module of a tensor name.
///
/// The layer is the first part of the name that is an integer; null where there is none. The module is what
/// follows it, or the whole name where there is none, without a closing `.weight`. A name that ends in its integer
/// keeps all its parts as module, so that a module is never empty. An integer above `i32::MAX` is no layer number
/// but a part like others.
///
/// ```
/// use arrow_quant::model::name::layer_and_module;
///
/// assert_eq!(layer_and_module("model.layers.3.self_attn.q_proj.weight"), (Some(3), "self_attn.q_proj"));
/// assert_eq!(layer_and_module("lm_head.weight"), (None, "lm_head"));
/// ```
#[must_use]
pub fn layer_and_module(name: &str) -> (Option<i32>, &str) {
    let stem = name.strip_suffix(".weight").filter(|stem| !stem.is_empty()).unwrap_or(name);
    let mut start = 0;
    for part in stem.split('.') {
        let end = start + part.len();
        if let Some(layer) = layer_number(part) {
            let module = stem.get(end + 1..).filter(|rest| !rest.is_empty()).unwrap_or(stem);
            return (Some(layer), module);
        }
        start = end + 1;
    }
    (None, stem)
}

/// Returns the number of a part made of digits alone; `+3`, which `parse` takes, is no number here.
fn layer_number(part: &str) -> Option<i32> {
    part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_known_models_split_into_layer_and_module() {
        for (name, layer, module) in [
            // LLaMA, Qwen, Dream
            ("model.layers.3.self_attn.q_proj.weight", Some(3), "self_attn.q_proj"),
            ("model.layers.27.mlp.down_proj.weight", Some(27), "mlp.down_proj"),
            ("model.layers.0.self_attn.q_proj.bias", Some(0), "self_attn.q_proj.bias"),
            ("model.layers.2.mlp.experts.17.up_proj.weight", Some(2), "mlp.experts.17.up_proj"),
            ("model.embed_tokens.weight", None, "model.embed_tokens"),
            ("model.norm.weight", None, "model.norm"),
            ("lm_head.weight", None, "lm_head"),
            // LLaDA
            ("model.transformer.blocks.31.ff_out.weight", Some(31), "ff_out"),
            ("model.transformer.wte.weight", None, "model.transformer.wte"),
            // GPT-2
            ("h.11.attn.c_attn.weight", Some(11), "attn.c_attn"),
            // MiniLM
            ("encoder.layer.5.attention.self.query.weight", Some(5), "attention.self.query"),
            ("embeddings.word_embeddings.weight", None, "embeddings.word_embeddings"),
            ("embeddings.LayerNorm.bias", None, "embeddings.LayerNorm.bias"),
            // DiT, SD3, Flux
            ("blocks.0.attn.qkv.weight", Some(0), "attn.qkv"),
            ("blocks.0.adaLN_modulation.1.weight", Some(0), "adaLN_modulation.1"),
            ("transformer_blocks.12.attn.to_out.0.weight", Some(12), "attn.to_out.0"),
            ("single_transformer_blocks.37.proj_mlp.weight", Some(37), "proj_mlp"),
            ("double_blocks.18.img_attn.qkv.weight", Some(18), "img_attn.qkv"),
            ("t_embedder.mlp.0.weight", Some(0), "t_embedder.mlp.0"),
            ("proj_out.weight", None, "proj_out"),
            ("pos_embed", None, "pos_embed"),
            // U-Net
            ("down_blocks.0.resnets.1.conv1.weight", Some(0), "resnets.1.conv1"),
            ("mid_block.attentions.0.proj_in.weight", Some(0), "proj_in"),
            ("conv_in.bias", None, "conv_in.bias"),
            // Companions of fp8 weights
            ("model.layers.3.mlp.up_proj.weight_scale_inv", Some(3), "mlp.up_proj.weight_scale_inv"),
        ] {
            assert_eq!(layer_and_module(name), (layer, module), "{name}");
        }
    }

    #[test]
    fn odd_names_do_not_panic_and_give_a_module() {
        for (name, layer, module) in [
            ("", None, ""),
            (".", None, "."),
            (".weight", None, ".weight"),
            ("weight", None, "weight"),
            ("0", Some(0), "0"),
            ("a.1.weight", Some(1), "a.1"),
            ("a.1.", Some(1), "a.1."),
            ("a..1.b", Some(1), "b"),
            ("a.-1.b.weight", None, "a.-1.b"),
            ("a.+1.b", None, "a.+1.b"),
            ("a.2147483647.b", Some(i32::MAX), "b"),
            ("a.2147483648.b", None, "a.2147483648.b"),
            ("a.99999999999999999999999.4.b", Some(4), "b"),
            ("层.3.é.weight", Some(3), "é"),
        ] {
            assert_eq!(layer_and_module(name), (layer, module), "{name}");
        }
    }
}
