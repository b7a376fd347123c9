//! `general.architecture` of diffusion models, told from the names of their tensors.

use crate::model::Model;

/// The names that loaders of GGUF have for architectures, each with tensors that all of its models have, in the key names
/// of its single files or of diffusers. The first that fits counts.
const KNOWN: &[(&str, &[&[&str]])] = &[
    (
        "flux",
        &[
            &["double_blocks.0.img_attn.proj.weight"],
            &["transformer_blocks.0.attn.norm_added_k.weight", "single_transformer_blocks.0.proj_mlp.weight"],
        ],
    ),
    (
        "qwen_image",
        &[&["transformer_blocks.0.img_mlp.net.0.proj.weight", "transformer_blocks.0.attn.norm_added_q.weight"]],
    ),
    (
        "sd3",
        &[
            &["joint_blocks.0.x_block.attn.qkv.weight"],
            &["transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"],
        ],
    ),
    ("aura", &[&["double_layers.3.modX.1.weight"], &["joint_transformer_blocks.3.ff_context.out_projection.weight"]]),
    ("hidream", &[&["double_stream_blocks.0.block.ff_i.shared_experts.w3.weight"]]),
    ("cosmos", &[&["blocks.0.mlp.layer1.weight", "blocks.0.adaln_modulation_cross_attn.1.weight"]]),
    ("ltxv", &[&["adaln_single.emb.timestep_embedder.linear_2.weight", "transformer_blocks.27.scale_shift_table"]]),
    ("hyvid", &[&["double_blocks.0.img_attn_proj.weight"]]),
    ("wan", &[&["blocks.0.self_attn.norm_q.weight", "head.modulation"]]),
    ("lumina2", &[&["cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight"]]),
    (
        "sdxl",
        &[&["label_emb.0.0.weight", "input_blocks.0.0.weight"], &["add_embedding.linear_1.weight", "conv_in.weight"]],
    ),
    (
        "sd1",
        &[
            &["input_blocks.3.0.op.weight", "output_blocks.0.0.in_layers.0.weight"],
            &["down_blocks.0.downsamplers.0.conv.weight", "conv_in.weight"],
        ],
    ),
];

/// The prefixes that single files may have before every name.
const PREFIXES: [&str; 2] = ["", "model.diffusion_model."];

/// Returns the architecture of a model, where it is known.
pub fn of(model: &Model) -> Option<&'static str> {
    let has = |prefix: &str, name: &str| model.tensor(&format!("{prefix}{name}")).is_some();
    let fits = |names: &&[&str]| PREFIXES.iter().any(|prefix| names.iter().all(|name| has(prefix, name)));
    KNOWN.iter().find(|(_, layouts)| layouts.iter().any(fits)).map(|(name, _)| *name)
}
