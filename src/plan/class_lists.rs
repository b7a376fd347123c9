//! Tensors that no linear layer takes, by the architecture that `config.json` names.
//!
//! The lists are those of the classes of transformers and diffusers: embeddings, and parameters that are no weights of a
//! linear layer. Names that mean the same in every architecture are in [`default_exclusions`](super::default_exclusions).

/// Tensors of one kind in some architectures.
#[derive(Debug)]
pub struct Class {
    /// The values of `model_type` that it is of.
    pub architectures: &'static [&'static str],
    /// The kind, as the report says it.
    pub kind: &'static str,
    /// The last parts of the names of the tensors, without `.weight`.
    pub modules: &'static [&'static str],
}

/// The table.
pub const CLASSES: &[Class] = &[
    class(&["eomt", "eomt_dinov3", "videomt"], "embedding", &["query"]),
    class(&["grounding_dino", "sam3", "sam3_lite_text"], "embedding", &["reference_points", "presence_token"]),
    class(
        &["sam", "sam2", "sam2_video", "sam_hq", "edgetam", "edgetam_video", "sam3_tracker", "sam3_tracker_video"],
        "embedding",
        &["iou_token", "mask_tokens", "obj_score_token", "hq_token", "latents_1d", "latents_2d"],
    ),
    class(&["ctrl"], "embedding", &["w"]),
    class(&["dab_detr"], "embedding", &["patterns"]),
    class(&["deepseek_ocr2"], "embedding", &["query_768_resolution", "query_1024_resolution"]),
    class(&["esm"], "embedding", &["recycle_disto"]),
    class(&["kosmos2", "kosmos2_5"], "embedding", &["segment_emb", "latent_query"]),
    class(&["longt5"], "embedding", &["global_relative_attention_bias"]),
    class(&["lw_detr", "rf_detr"], "embedding", &["query_feat"]),
    class(&["mask2former"], "embedding", &["queries_features"]),
    class(&["oneformer"], "embedding", &["prompt_ctx"]),
    class(
        &["phi4_multimodal"],
        "embedding",
        &["bias_values", "global_img_feature_extensor", "sub_img_feature_extensor"],
    ),
    class(&["qwen2_5_omni"], "embedding", &["audio_bos_eos_token"]),
    class(&["speecht5"], "embedding", &["pe_k"]),
    class(&["vits"], "embedding", &["emb_rel_k", "emb_rel_v"]),
    class(&["aria", "granite4_vision", "granite_speech", "granite_speech_plus"], "learned table", &["query"]),
    class(&["idefics2", "phi4_multimodal", "siglip", "siglip2"], "learned table", &["probe"]),
    class(
        &["unispeech", "unispeech_sat", "wav2vec2", "wav2vec2_conformer", "wavlm"],
        "learned table",
        &["codevectors", "gru_rel_pos_const"],
    ),
    class(&["xlnet"], "matrix of no linear layer", &["q", "k", "v", "o", "r", "mask_emb", "seg_embed"]),
    class(&["funnel"], "matrix of no linear layer", &["r_kernel"]),
    class(&["gemma3", "t5gemma2"], "matrix of no linear layer", &["mm_input_projection_weight"]),
    class(&["recurrent_gemma"], "matrix of no linear layer", &["input_gate_weight", "recurrent_gate_weight"]),
    class(&["zamba"], "matrix of no linear layer", &["dt_proj_weight", "x_proj_weight"]),
    class(&["deepseek_v4", "glm5_next", "hy_v4", "hy_v4_vl"], "matrix of no linear layer", &["fn", "hc_fn"]),
];

const fn class(architectures: &'static [&'static str], kind: &'static str, modules: &'static [&'static str]) -> Class {
    Class { architectures, kind, modules }
}

/// Returns the kind of a tensor that no linear layer takes in one of some architectures. `None` means that none is known.
#[must_use]
pub fn kind_in(architectures: &[String], name: &str) -> Option<&'static str> {
    let module = name.strip_suffix(".weight").unwrap_or(name);
    let last = module.rsplit('.').next().unwrap_or(module);
    let of = |class: &&Class| {
        class.modules.contains(&last) && architectures.iter().any(|one| class.architectures.contains(&one.as_str()))
    };
    CLASSES.iter().find(of).map(|class| class.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_embedding_in_one_architecture_and_a_layer_in_another() {
        let kind = |architecture: &str, name| kind_in(&[architecture.to_owned()], name);
        assert_eq!(kind("eomt", "query.weight"), Some("embedding"));
        assert_eq!(kind("bert", "encoder.layer.0.attention.self.query.weight"), None);
        assert_eq!(kind("siglip", "vision_model.head.probe"), Some("learned table"));
        assert_eq!(kind("xlnet", "transformer.layer.0.rel_attn.q"), Some("matrix of no linear layer"));
        assert_eq!(kind("llama", "model.layers.0.self_attn.q"), None);
        assert_eq!(kind_in(&["llava".to_owned(), "siglip".to_owned()], "vision.head.probe"), Some("learned table"));
    }
}
