//! The tensors whose shapes `ComfyUI` reads to recognize a model (`comfy/model_detection.py`): packed, they would be half as wide.

use regex::RegexSet;

use crate::storage::error::IoError;

/// The names, at their ends.
const PATTERNS: [&str; 10] = [
    // Flux, Qwen-Image, HunyuanVideo.
    r"^(.*\.)?(img_in|txt_in|txt_in\.\w+|img_in\.\w+|vector_in\.in_layer|guidance_in\.in_layer)\.weight$",
    // Lumina 2, Z-Image, PixArt.
    r"^(.*\.)?(cap_embedder\.\d+|x_embedder|y_embedder\.\S+|t_embedder\.\S+)\.weight$",
    // Cosmos, CogVideoX, Wan.
    r"^(.*\.)?(x_embedder\.proj\.\d+|patch_embed\.\S+|patch_embedding(\.\S+)?)\.weight$",
    r"^(.*\.)?blocks\.0\.norm1\.linear\.weight$",
    // LTX, SD and SDXL: the width of what cross attention is fed.
    r"^(.*\.)?transformer_blocks\.0\.attn2\.to_k\.weight$",
    // MiniMax-H3.
    r"^(.*\.)?(condition_proj|time_embedder\.proj_in)(\.\w+)?\.weight$",
    // Ideogram, Krea 2, Kandinsky.
    r"^(.*\.)?(input_proj|txtfusion\.projector|visual_embeddings\.in_layer)\.weight$",
    r"^(model\.diffusion_model\.|diffusion_model\.)?first\.weight$",
    // Wan.
    r"^(.*\.)?(head\.head|head\.modulation|text_embedding\.\d+|img_emb\.proj\.\d+)\.weight$",
    // SDXL and SD: the vectors that conditions are added as.
    r"^(.*\.)?(label_emb\.0\.0|add_embedding\.linear_1|adaln_single\.\S+)\.weight$",
];

/// The patterns, compiled.
pub struct Detection(RegexSet);

impl Detection {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// Returns an error if one is no regular expression.
    pub fn new() -> Result<Self, IoError> {
        let set = RegexSet::new(PATTERNS);
        set.map(Self).map_err(|error| IoError::Request(format!("the names that ComfyUI detects models by: {error}")))
    }

    /// Returns true if `ComfyUI` reads the shape of a tensor of this name.
    pub fn reads(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tensors_that_tell_models_apart_are_known_with_and_without_prefix() {
        let detection = Detection::new().unwrap();
        for name in [
            "img_in.weight",
            "model.diffusion_model.img_in.weight",
            "vector_in.in_layer.weight",
            "txt_in.input_embedder.weight",
            "cap_embedder.1.weight",
            "x_embedder.weight",
            "net.x_embedder.proj.1.weight",
            "transformer_blocks.0.attn2.to_k.weight",
            "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight",
            "blocks.0.norm1.linear.weight",
            "patch_embed.proj.weight",
            "time_embedder.proj_in.weight",
            "first.weight",
            "patch_embedding.weight",
        ] {
            assert!(detection.reads(name), "{name}");
        }
        for name in [
            "double_blocks.0.img_attn.qkv.weight",
            "transformer_blocks.1.attn2.to_k.weight",
            "blocks.0.self_attn.q.weight",
            "layers.0.attention.qkv.weight",
            "blocks.0.ffn.first.weight",
        ] {
            assert!(!detection.reads(name), "{name}");
        }
    }
}
