//! Diffusion language models as llama.cpp runs them: the names of tensors, the keys, the order of rows.
//!
//! As its converter writes them (`convert_hf_to_gguf.py`, `Dream` and `LLaDA`). Told from `architectures` in
//! `config.json`.

use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::{ARCHITECTURE, GgufOptions, tokenizer};
use crate::io::{
    IoError, Model, Tensor,
    gguf::{Pair, Value},
    piece::Order,
};

/// What a family of models calls its parts.
struct Family {
    /// `general.architecture`.
    architecture: &'static str,
    /// What `config.json` calls it.
    class: &'static str,
    /// Tensors outside the blocks, without `.weight`, and their names in GGUF; the token embedding first.
    outside: [(&'static str, &'static str); 3],
    /// What names of tensors in blocks begin with, before the number.
    blocks: &'static str,
    /// What follows the number, and the names in GGUF.
    inside: [(&'static str, &'static str); 9],
    /// The keys of the configuration, in the order of [`SIZES`].
    sizes: [&'static str; 6],
    /// Whether queries and keys are stored in halves, where llama.cpp rotates neighbours.
    in_halves: bool,
    /// `diffusion.shift_logits`, where it is not true.
    shift_logits: bool,
    /// `tokenizer.ggml.add_bos_token`; none: as the tokenizer says.
    add_bos: Option<bool>,
    /// `tokenizer.ggml.pre` of checkpoints without `tokenizer.json`.
    pre: Option<&'static str>,
}

/// The keys of GGUF for sizes.
const SIZES: [&str; 6] = [
    "block_count",
    "context_length",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
];

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

/// A model of a known family.
pub(super) struct Language {
    family: &'static Family,
    path: PathBuf,
    config: Map<String, Json>,
}

impl Language {
    /// The family of a model; none: its tensors keep their names. A GGUF source, and one whose architecture the options
    /// give, is of none.
    ///
    /// # Errors
    /// `config.json` cannot be read, or is no JSON object.
    pub fn of(model: &Model, options: &GgufOptions) -> Result<Option<Self>, IoError> {
        let from_gguf = model.files().iter().any(|file| !file.pairs.is_empty());
        let path = model.folder().join("config.json");
        if from_gguf || options.architecture.is_some() || !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
        let config: Map<String, Json> = serde_json::from_slice(&text)
            .map_err(|error| IoError::file(&path, format!("is not a JSON object: {error}")))?;
        let classes = config.get("architectures").and_then(Json::as_array);
        let is = |family: &&Family| classes.is_some_and(|classes| classes.iter().any(|class| class == family.class));
        Ok(FAMILIES.iter().find(is).map(|family| Self { family, path, config }))
    }

    /// The name of a tensor in GGUF, and how its rows follow each other.
    ///
    /// # Errors
    /// The family has no such tensor.
    pub fn place(&self, model: &Model, tensor: &Tensor) -> Result<(String, Order), IoError> {
        let refuse = |problem: String| IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem);
        let found = self.name(&tensor.name).ok_or_else(|| {
            let architecture = self.family.architecture;
            refuse(format!(
                "is none of the tensors that llama.cpp has for {architecture}; --gguf-architecture {architecture} writes all \
                 tensors by the names that they have"
            ))
        })?;
        let heads = match found.rsplit('.').nth(1) {
            Some("attn_q") if self.family.in_halves => self.size(4)?,
            Some("attn_k") if self.family.in_halves => self.size(5)?,
            _ => return Ok((found, Order::Rows)),
        };
        let head = tensor.rows.checked_div(heads as usize).unwrap_or(0);
        if head * heads as usize != tensor.rows || !head.is_multiple_of(2) || tensor.shape.len() != 2 {
            return Err(refuse(format!("has the shape {:?}, which is not that of {heads} heads", tensor.shape)));
        }
        Ok((found, Order::Interleaved { head }))
    }

    fn name(&self, name: &str) -> Option<String> {
        let (module, kind) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
        if let Some((_, known)) = self.family.outside.iter().find(|(known, _)| *known == module) {
            return (kind == "weight").then(|| format!("{known}.weight"));
        }
        let (number, part) = module.strip_prefix(self.family.blocks)?.split_once('.')?;
        let number: u32 = number.parse().ok()?;
        let (_, known) = self.family.inside.iter().find(|(known, _)| *known == part)?;
        // Rows in another order would need their biases so as well, and no checkpoint has any.
        (kind == "weight" || !self.family.in_halves).then(|| format!("blk.{number}.{known}.{kind}"))
    }

    /// The pairs that llama.cpp needs, `general.architecture` first.
    ///
    /// # Errors
    /// The configuration or the tokenizer lacks something; the message says what.
    pub fn pairs(&self, model: &Model, options: &GgufOptions) -> Result<Vec<Pair>, IoError> {
        let family = self.family;
        let of = |key: &str| format!("{}.{key}", family.architecture);
        let mut pairs = Vec::new();
        let mut add = |key: String, value: Value| pairs.push(Pair { key, value });
        add(ARCHITECTURE.to_owned(), Value::String(family.architecture.to_owned()));
        add("general.type".to_owned(), Value::String("model".to_owned()));
        let name = self.config.get("_name_or_path").and_then(Json::as_str).and_then(|path| path.rsplit('/').next());
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            add("general.name".to_owned(), Value::String(name.to_owned()));
        }
        for (number, key) in SIZES.iter().enumerate() {
            add(of(key), Value::U32(self.size(number)?));
        }
        if self.config.get("rope_scaling").is_some_and(|scaling| !scaling.is_null()) {
            return Err(IoError::file(&self.path, "has rope_scaling, which is not written to GGUF"));
        }
        let head = self.size(2)?.checked_div(self.size(4)?).unwrap_or(0);
        add(of("rope.dimension_count"), Value::U32(head));
        add(of("rope.freq_base"), Value::F32(self.number("rope_theta")? as f32));
        add(of("attention.layer_norm_rms_epsilon"), Value::F32(self.number("rms_norm_eps")? as f32));
        add(of("attention.causal"), Value::Bool(false));
        if !family.shift_logits {
            add("diffusion.shift_logits".to_owned(), Value::Bool(false));
        }
        let embedding = format!("{}.weight", family.outside[0].0);
        let embedding = model.tensor(&embedding).ok_or_else(|| {
            IoError::file(model.folder(), format!("has no tensor '{embedding}', which llama.cpp cannot do without"))
        })?;
        let tokens = u32::try_from(embedding.rows).unwrap_or(u32::MAX);
        add(of("vocab_size"), Value::U32(tokens));
        let mask = self.whole("mask_token_id")?;
        let asked = tokenizer::Asked {
            tokens: embedding.rows,
            pre: options.pre.as_deref().or(family.pre),
            pre_is_given: options.pre.is_some(),
            add_bos: family.add_bos,
        };
        pairs.extend(tokenizer::pairs(model.folder(), &self.config, &asked)?);
        pairs.push(Pair { key: "tokenizer.ggml.mask_token_id".to_owned(), value: Value::U32(mask) });
        Ok(pairs)
    }

    /// A size, by its place in [`SIZES`]. Without a number of their own, there are as many heads of keys as of queries.
    fn size(&self, number: usize) -> Result<u32, IoError> {
        let key = self.family.sizes[number];
        if number == 5 && self.config.get(key).is_none_or(Json::is_null) { self.size(4) } else { self.whole(key) }
    }

    fn whole(&self, key: &str) -> Result<u32, IoError> {
        let found = self.config.get(key).and_then(Json::as_u64).and_then(|number| u32::try_from(number).ok());
        found.ok_or_else(|| self.lacks(key, "a whole number"))
    }

    fn number(&self, key: &str) -> Result<f64, IoError> {
        self.config.get(key).and_then(Json::as_f64).ok_or_else(|| self.lacks(key, "a number"))
    }

    fn lacks(&self, key: &str, what: &str) -> IoError {
        let problem = format!("must say {key}, {what}, for llama.cpp to run a {} model", self.family.architecture);
        IoError::file(&self.path, problem)
    }
}
