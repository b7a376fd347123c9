//! The tensors that stay as they are unless asked for, as name patterns per family of architectures.
//!
//! Every pattern is tried on every tensor of rank 2 and more; they are anchored so that a family's pattern does not meet
//! another's weights (`proj_out` is the final layer of a transformer at the top and a linear layer inside a block).

/// Tensors of one kind in one family.
#[derive(Debug)]
pub struct Kept {
    /// The architectures that name them so.
    pub architectures: &'static str,
    /// Their kind, as the report says it.
    pub kind: &'static str,
    /// Regular expressions on the whole name.
    pub patterns: &'static [&'static str],
}

/// The table.
pub const KEPT: &[Kept] = &[
    Kept {
        architectures: "LLaMA, Qwen, Dream",
        kind: "embedding",
        patterns: &[r"(^|\.)(embed_tokens|tok_embeddings|word_embeddings|wte|wpe)(\.weight)?$"],
    },
    Kept {
        architectures: "LLaMA, Qwen, Dream, GPT",
        kind: "head",
        patterns: &[
            r"(^|\.)(lm_head|embed_out|score|classifier(\.\w+)?|qa_outputs)\.weight$",
            r"^(model\.)?output\.weight$",
            r"^(model\.|transformer\.)?(output_layer|vocab_projector|generator_lm_head)\.weight$",
            r"(^|\.)lm_head\.decoder\.weight$",
        ],
    },
    Kept {
        architectures: "LLaDA",
        kind: "head",
        // `blocks.3.ff_out` is the second matrix of an MLP.
        patterns: &[r"^(model\.)?transformer\.ff_out\.weight$"],
    },
    Kept {
        architectures: "mixture of experts",
        kind: "router",
        // `ffn.gate.0` of UMT5 is the gate of an MLP.
        patterns: &[
            r"\.(mlp|moe|block_sparse_moe|feed_forward|ffn|ff|ff_i|mixer)\.(gate|router|gating)(\.(wg|layer|linear|classifier))?\.weight$",
            r"\.router(\.\w+)?\.weight$",
            r"\.(shared_experts?_gate|ffn_gate_inp(_shexp)?|primary_router|secondary_router|moe_gate|gate_network)(\.\w+)?\.weight$",
        ],
    },
    Kept {
        architectures: "BERT, MiniLM, T5, CLIP",
        kind: "embedding",
        patterns: &[
            r"(^|\.)\w*(position|positional|token_type|token|class|patch)_embeddings?(\.weight)?$",
            r"(^|\.)shared\.weight$",
            r"(^|\.)relative_attention_bias\.weight$",
        ],
    },
    Kept { architectures: "BERT", kind: "head", patterns: &[r"(^|\.)cls\.(predictions|seq_relationship)\."] },
    Kept {
        architectures: "DiT, PixArt, SD3, Flux, Qwen-Image, Wan",
        kind: "timestep embedder",
        patterns: &[
            r"(^|\.)(t_embedder|timestep_embedder|time_embedder|time_embedding|time_embed|time_text_embed|time_in)\.",
            r"(^|\.)(time_guidance_embed|guidance_embedder|guidance_in|adaln_single|time_projection)\.",
        ],
    },
    Kept {
        architectures: "DiT, PixArt, SD3, Flux, Qwen-Image, Wan",
        kind: "condition embedder",
        patterns: &[
            r"(^|\.)(y_embedder|context_embedder|condition_embedder|caption_projection|text_embedder|vector_in)\.",
            r"^(model\.diffusion_model\.|transformer\.)?(txt_in|txt_norm|cap_embedder|text_embedding|img_emb)\.",
        ],
    },
    Kept {
        architectures: "DiT, PixArt, SD3, Flux, Qwen-Image, Wan, ViT",
        kind: "patch embedder",
        patterns: &[
            r"(^|\.)(x_embedder|patch_embed|patch_embedding|patch_embeddings|img_in)\.",
            r"(^|\.)pos_embed(\.proj\.weight|\.pos_embed)?$",
            r"^(model\.diffusion_model\.|transformer\.)?proj_in\.weight$",
        ],
    },
    Kept {
        architectures: "DiT, PixArt, SD3, Flux, Qwen-Image, Wan",
        kind: "final layer",
        patterns: &[
            r"(^|\.)(final_layer|norm_out)\.",
            r"^(model\.diffusion_model\.|transformer\.)?(proj_out|head\.head)\.weight$",
        ],
    },
    Kept {
        architectures: "PixArt, Wan",
        kind: "modulation table",
        patterns: &[r"(^|\.)(scale_shift_table|modulation)$"],
    },
    Kept {
        architectures: "Wan-Animate",
        kind: "motion encoder",
        // Its layers multiply their weights by a scale before they use them.
        patterns: &[r"(^|\.)motion_encoder\."],
    },
    Kept {
        architectures: "diffusers U-Net",
        kind: "patch embedder",
        patterns: &[r"^(unet\.)?conv_in\.weight$", r"^model\.diffusion_model\.input_blocks\.0\.0\.weight$"],
    },
    Kept {
        architectures: "diffusers U-Net",
        kind: "timestep embedder",
        patterns: &[r"^(unet\.|model\.diffusion_model\.)?(add_embedding|class_embedding|label_emb)\."],
    },
    Kept {
        architectures: "diffusers U-Net",
        kind: "final layer",
        patterns: &[r"^(unet\.)?conv_out\.weight$", r"^model\.diffusion_model\.out\.2\.weight$"],
    },
    Kept {
        architectures: "all",
        kind: "norm",
        // The last part alone: `norm1.linear` is a matrix of an adaptive norm.
        patterns: &[
            r"(?i)(^|[._])(layer_?norm|rms_?norm|group_?norm|batch_?norm|norm|ln)_?\w*(\.weight)?$",
            r"(^|\.)(gamma|beta|clip_mean|clip_std)$",
        ],
    },
    Kept {
        architectures: "all",
        kind: "embedding",
        // The last part alone: `patch_embed.proj` is a layer.
        patterns: &[
            r"(^|\.)(\w*_)?(embed|embeds|embedding|embeddings|embedder)(_\w+)?(\.weight)?$",
            r"(^|\.)(pos|position|positional|rel_pos|relative_position)_?(emb|embs|enc|encoding|encodings|table|ids|bias|biases|bias_table)?(_\w)?(\.weight)?$",
            r"(^|\.)relative_position_bias_table$",
            r"(^|\.)pos_frequencies$",
        ],
    },
    Kept {
        architectures: "ViT, DINO, Perceiver, Q-Former, connectors",
        kind: "learned table",
        patterns: &[
            r"(^|\.)(\w+_)?(tokens?|latents?|queries|registers?|codebook|prompts?|prototypes|pe|freqs_cis|inv_freq)$",
            r"(^|\.)(\w+_)?(tables?|codebook)(\.weight)?$",
        ],
    },
    Kept {
        architectures: "Mamba, RWKV",
        kind: "state",
        patterns: &[r"(^|\.)(A_log|A_logs|D|dt_bias|time_(maa|mix|decay|faaaa|first)\w*|[xwkvrga]_[rwkvag])$"],
    },
    Kept {
        architectures: "all",
        kind: "bias",
        // Experts that are stored together have one for each of them, as a matrix.
        patterns: &[r"(^|[._])(bias|biases|b1|b2)$"],
    },
    Kept {
        architectures: "all, fp8 or quantized before",
        kind: "scale",
        patterns: &[r"\.(scale_weight|scale_input|(weight|input|output|k|v)_scale(_\w+)?|weight_zero_point)$"],
    },
];

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::KEPT;

    /// The kind that keeps a tensor, if any.
    fn kind(name: &str) -> Option<&'static str> {
        KEPT.iter()
            .find(|kept| kept.patterns.iter().any(|pattern| Regex::new(pattern).unwrap().is_match(name)))
            .map(|kept| kept.kind)
    }

    #[test]
    fn known_names_are_kept_or_quantized() {
        for (name, expected) in [
            // LLaMA, Qwen, Dream
            ("model.embed_tokens.weight", Some("embedding")),
            ("model.layers.0.self_attn.q_proj.weight", None),
            ("model.layers.0.mlp.gate_proj.weight", None),
            ("model.layers.0.mlp.gate.weight", Some("router")),
            ("model.layers.0.mlp.experts.3.down_proj.weight", None),
            ("model.layers.0.mlp.experts.gate_up_proj", None),
            ("model.layers.0.mlp.experts.gate_up_proj_bias", Some("bias")),
            ("model.layers.0.mlp.shared_expert_gate.weight", Some("router")),
            ("model.layers.0.mlp.gate.wg.weight", Some("router")),
            ("layers.0.ffn.gate.weight", Some("router")),
            ("transformer.blocks.0.ffn.router.layer.weight", Some("router")),
            ("encoder.block.1.layer.1.mlp.router.gate.weight", Some("router")),
            ("blk.0.ffn_gate_inp.weight", Some("router")),
            ("blk.0.ffn_gate.weight", None),
            ("blocks.0.ffn.gate.0.weight", None),
            ("model.layers.0.mixer.in_proj.weight", None),
            ("backbone.layers.0.mixer.A_log", Some("state")),
            // OPT, GPT-NeoX, DeBERTa, Swin, DINOv2, Q-Former
            ("model.decoder.embed_positions.weight", Some("embedding")),
            ("gpt_neox.embed_in.weight", Some("embedding")),
            ("embed_out.weight", Some("head")),
            ("deberta.encoder.rel_embeddings.weight", Some("embedding")),
            ("embeddings.register_tokens", Some("learned table")),
            ("query_tokens", Some("learned table")),
            ("swin.layers.0.attention.self.relative_position_bias_table", Some("embedding")),
            ("vision_model.embeddings.position_embedding.weight", Some("embedding")),
            ("visual.positional_embedding", Some("embedding")),
            ("model.encoder.pos_emb", Some("embedding")),
            ("transformer.output_layer.weight", Some("head")),
            ("electra.embeddings_project.weight", Some("embedding")),
            ("model.layers.0.self_attn.in_proj_weight", None),
            ("model.layers.0.self_attn.pos_proj.weight", None),
            ("model.layers.0.input_layernorm.weight", Some("norm")),
            ("model.norm.weight", Some("norm")),
            ("lm_head.weight", Some("head")),
            // LLaDA
            ("model.transformer.wte.weight", Some("embedding")),
            ("model.transformer.ff_out.weight", Some("head")),
            ("model.transformer.blocks.0.ff_out.weight", None),
            ("model.transformer.blocks.0.ff_proj.weight", None),
            ("model.transformer.ln_f.weight", Some("norm")),
            // MiniLM, T5, CLIP
            ("embeddings.word_embeddings.weight", Some("embedding")),
            ("embeddings.position_embeddings.weight", Some("embedding")),
            ("embeddings.token_type_embeddings.weight", Some("embedding")),
            ("embeddings.LayerNorm.weight", Some("norm")),
            ("encoder.layer.0.attention.self.query.weight", None),
            ("encoder.layer.0.attention.output.dense.weight", None),
            ("encoder.layer.0.output.dense.weight", None),
            ("pooler.dense.weight", None),
            ("shared.weight", Some("embedding")),
            ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", Some("embedding")),
            ("encoder.block.0.layer.1.DenseReluDense.wi_0.weight", None),
            ("text_model.embeddings.token_embedding.weight", Some("embedding")),
            // DiT
            ("x_embedder.proj.weight", Some("patch embedder")),
            ("t_embedder.mlp.0.weight", Some("timestep embedder")),
            ("y_embedder.embedding_table.weight", Some("condition embedder")),
            ("pos_embed", Some("patch embedder")),
            ("blocks.0.attn.qkv.weight", None),
            ("blocks.0.adaLN_modulation.1.weight", None),
            ("final_layer.linear.weight", Some("final layer")),
            // SD3, Flux, PixArt, Qwen-Image, Wan
            ("pos_embed.proj.weight", Some("patch embedder")),
            ("context_embedder.weight", Some("condition embedder")),
            ("time_text_embed.timestep_embedder.linear_1.weight", Some("timestep embedder")),
            ("transformer_blocks.0.norm1.linear.weight", None),
            ("transformer_blocks.0.attn.add_k_proj.weight", None),
            ("transformer_blocks.0.attn.to_out.0.weight", None),
            ("transformer_blocks.0.ff.net.0.proj.weight", None),
            ("transformer_blocks.0.scale_shift_table", Some("modulation table")),
            ("single_transformer_blocks.0.proj_out.weight", None),
            ("single_transformer_blocks.0.proj_mlp.weight", None),
            ("norm_out.linear.weight", Some("final layer")),
            ("proj_out.weight", Some("final layer")),
            ("adaln_single.linear.weight", Some("timestep embedder")),
            ("caption_projection.linear_1.weight", Some("condition embedder")),
            ("double_blocks.0.img_attn.qkv.weight", None),
            ("double_blocks.0.img_mod.lin.weight", None),
            ("img_in.weight", Some("patch embedder")),
            ("guidance_in.in_layer.weight", Some("timestep embedder")),
            ("blocks.0.cross_attn.norm_q.weight", Some("norm")),
            ("head.head.weight", Some("final layer")),
            // HiDream, Mochi, Wan-Animate
            ("double_stream_blocks.0.block.ff_i.gate.weight", Some("router")),
            ("double_stream_blocks.0.block.ff_i.experts.0.w1.weight", None),
            ("pos_frequencies", Some("embedding")),
            ("motion_encoder.motion_network.0.weight", Some("motion encoder")),
            // U-Net
            ("down_blocks.0.0.channelwise.2.gamma", Some("norm")),
            ("conv_in.weight", Some("patch embedder")),
            ("time_embedding.linear_1.weight", Some("timestep embedder")),
            ("add_embedding.linear_1.weight", Some("timestep embedder")),
            ("down_blocks.0.resnets.1.conv1.weight", None),
            ("down_blocks.0.resnets.1.time_emb_proj.weight", None),
            ("down_blocks.0.attentions.0.proj_in.weight", None),
            ("down_blocks.0.downsamplers.0.conv.weight", None),
            ("mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight", None),
            ("up_blocks.0.resnets.0.conv_shortcut.weight", None),
            ("conv_out.weight", Some("final layer")),
            ("model.diffusion_model.out.2.weight", Some("final layer")),
            // Scales
            ("model.layers.0.mlp.up_proj.weight_scale_inv", Some("scale")),
            ("double_blocks.0.img_mlp.0.scale_weight", Some("scale")),
        ] {
            assert_eq!(kind(name), expected, "{name}");
        }
    }
}
