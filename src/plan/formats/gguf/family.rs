//! The names of tensors in families of diffusion language models and in llama.cpp, and the order of their rows.
//!
//! As llama.cpp's converter writes them (`convert_hf_to_gguf.py`, `Dream` and `LLaDA`).

use crate::storage::row_layout::Order;

/// The keys of GGUF for sizes.
pub const SIZES: [&str; 6] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
];
/// The size that counts the heads of queries, and the one that counts those of keys; without it there are as many.
pub const HEADS: usize = 4;
pub const KEY_HEADS: usize = 5;

/// The names that a family of models has for its parts.
#[derive(Debug)]
pub struct Family {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// The class in `config.json`.
    pub class: &'static str,
    /// Tensors outside the blocks, without `.weight`, and their names in GGUF; the token embedding first.
    pub outside: [(&'static str, &'static str); 3],
    /// The prefix of tensors in blocks, before the number.
    pub blocks: &'static str,
    /// The names after the number, and the names in GGUF.
    pub inside: [(&'static str, &'static str); 9],
    /// The keys of the configuration, in the order of [`SIZES`].
    pub sizes: [&'static str; 6],
    /// True if queries and keys are stored in halves, where llama.cpp rotates neighbours.
    pub in_halves: bool,
    /// `diffusion.shift_logits`, where it is not true.
    pub shift_logits: bool,
    /// `tokenizer.ggml.add_bos_token`. `None` means as the tokenizer says.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.pre` of checkpoints without `tokenizer.json`.
    pub pre: Option<&'static str>,
}

/// The families that llama.cpp runs.
const FAMILIES: [Family; 2] = [
    Family {
        architecture: "dream",
        class: "DreamModel",
        outside: [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")],
        blocks: "model.layers.",
        inside: [
            ("input_layernorm", "attn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("post_attention_layernorm", "ffn_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
        ],
        sizes: [
            "num_hidden_layers",
            "max_position_embeddings",
            "hidden_size",
            "intermediate_size",
            "num_attention_heads",
            "num_key_value_heads",
        ],
        in_halves: false,
        shift_logits: true,
        add_bos: None,
        // Its tokenizer splits text as that of Qwen2 does.
        pre: Some("qwen2"),
    },
    Family {
        architecture: "llada",
        class: "LLaDAModelLM",
        outside: [
            ("model.transformer.wte", "token_embd"),
            ("model.transformer.ln_f", "output_norm"),
            ("model.transformer.ff_out", "output"),
        ],
        blocks: "model.transformer.blocks.",
        inside: [
            ("attn_norm", "attn_norm"),
            ("q_proj", "attn_q"),
            ("k_proj", "attn_k"),
            ("v_proj", "attn_v"),
            ("attn_out", "attn_output"),
            ("ff_norm", "ffn_norm"),
            ("ff_proj", "ffn_gate"),
            ("up_proj", "ffn_up"),
            ("ff_out", "ffn_down"),
        ],
        sizes: ["n_layers", "max_sequence_length", "d_model", "mlp_hidden_size", "n_heads", "n_kv_heads"],
        in_halves: true,
        shift_logits: false,
        add_bos: Some(true),
        pre: None,
    },
];

impl Family {
    /// Returns the family of a class in `architectures` of `config.json`.
    pub fn of_class(class: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.class == class)
    }

    /// Returns the family of a `general.architecture`.
    pub fn of_architecture(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.architecture == architecture)
    }

    /// Returns llama.cpp's name for a tensor of the source; `None` if it has no such tensor.
    pub fn name(&self, name: &str) -> Option<String> {
        let (module, kind) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
        if let Some((_, known)) = self.outside.iter().find(|(known, _)| *known == module) {
            return (kind == "weight").then(|| format!("{known}.weight"));
        }
        let (number, part) = module.strip_prefix(self.blocks)?.split_once('.')?;
        let number: u32 = number.parse().ok()?;
        let (_, known) = self.inside.iter().find(|(known, _)| *known == part)?;
        // Rows in another order would need their biases so as well, and no checkpoint has any.
        (kind == "weight" || !self.in_halves).then(|| format!("blk.{number}.{known}.{kind}"))
    }

    /// Returns the size that counts the heads within which the rows of a tensor (by its name in GGUF) are interleaved; `None` if
    /// the rows stay in order.
    pub fn heads_of(&self, name: &str) -> Option<usize> {
        match name.rsplit('.').nth(1) {
            Some("attn_q") if self.in_halves => Some(HEADS),
            Some("attn_k") if self.in_halves => Some(KEY_HEADS),
            _ => None,
        }
    }
}

/// Returns the order of rows that are interleaved within so many heads.
///
/// # Errors
/// Returns an error if the shape is not that of so many heads.
pub fn dealt(shape: &[usize], heads: u64) -> Result<Order, String> {
    let even = usize::try_from(heads).ok().and_then(|heads| heads.checked_mul(2)).filter(|even| *even > 0);
    match (shape, even) {
        ([rows, _], Some(even)) if rows.is_multiple_of(even) && *rows > 0 => {
            Ok(Order::Interleaved { head: rows / (even / 2) })
        }
        _ => Err(format!("has the shape {shape:?}, which is not that of {heads} heads")),
    }
}
