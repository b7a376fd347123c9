//! A diffusion language model as llama.cpp runs it: where its tensors go, and the keys that stand beside them.
//!
//! Found by `architectures` in `config.json`.

use std::path::PathBuf;

use serde_json::{Map, Value as Json};

use super::{
    family::{Family, HEADS, KEY_HEADS, SIZES, dealt},
    tokenizer,
};
use crate::{
    model::{Model, tensor::Tensor},
    plan::spec::Spec,
    storage::{
        error::IoError,
        gguf::{
            value::{Pair, Value},
            writer::ARCHITECTURE,
        },
        row_layout::Order,
    },
};

/// A model of a known family.
pub(super) struct Language {
    family: &'static Family,
    path: PathBuf,
    config: Map<String, Json>,
}

/// Brings what transformers 5 writes under `rope_parameters` to where transformers 4 has it.
fn with_rope_at_the_top(mut config: Map<String, Json>) -> Map<String, Json> {
    let Some(Json::Object(mut rope)) = config.remove("rope_parameters") else { return config };
    if let Some(theta) = rope.remove("rope_theta") {
        config.entry("rope_theta").or_insert(theta);
    }
    if rope.get("rope_type").is_some_and(|kind| kind != "default") {
        config.entry("rope_scaling").or_insert(Json::Object(rope));
    }
    config
}

impl Language {
    /// Returns the family of a model. `None` means that its tensors keep their names. A GGUF source, and one whose
    /// architecture the options give, is of none.
    ///
    /// # Errors
    /// Returns an error if `config.json` cannot be read, or is no JSON object.
    pub fn of(model: &Model, spec: &Spec) -> Result<Option<Self>, IoError> {
        let from_gguf = model.files().iter().any(|file| !file.pairs.is_empty());
        let path = model.folder().join("config.json");
        if from_gguf || spec.gguf_architecture.is_some() || !path.is_file() {
            return Ok(None);
        }
        let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
        let config: Map<String, Json> = serde_json::from_slice(&text)
            .map_err(|error| IoError::file(&path, format!("is not a JSON object: {error}")))?;
        let classes = config.get("architectures").and_then(Json::as_array);
        let known = |class: &Json| Family::of_class(class.as_str()?);
        let family = classes.and_then(|classes| classes.iter().find_map(known));
        Ok(family.map(|family| Self { family, path, config: with_rope_at_the_top(config) }))
    }

    /// Returns the name of a tensor in GGUF, and how its rows follow each other.
    ///
    /// # Errors
    /// Returns an error if the family has no such tensor.
    pub fn place(&self, model: &Model, tensor: &Tensor) -> Result<(String, Order), IoError> {
        let refuse = |problem: String| IoError::tensor(&model.file_of(tensor).path, &tensor.name, problem);
        let found = self.family.name(&tensor.name).ok_or_else(|| {
            let architecture = self.family.architecture;
            refuse(format!(
                "is none of the tensors that llama.cpp has for {architecture}; `gguf_architecture` {architecture} writes all \
                 tensors by the names that they have"
            ))
        })?;
        let Some(heads) = self.family.heads_of(&found) else { return Ok((found, Order::Rows)) };
        let order = dealt(&tensor.shape, self.size(heads)?.into()).map_err(refuse)?;
        Ok((found, order))
    }

    /// Returns the pairs that llama.cpp needs, `general.architecture` first.
    ///
    /// # Errors
    /// Returns an error if the configuration or the tokenizer lacks something; the message says what.
    pub fn pairs(&self, model: &Model, spec: &Spec) -> Result<Vec<Pair>, IoError> {
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
        let head = self.size(2)?.checked_div(self.size(HEADS)?).unwrap_or(0);
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
            pre: spec.gguf_pre.as_deref().or(family.pre),
            pre_is_given: spec.gguf_pre.is_some(),
            add_bos: family.add_bos,
        };
        pairs.extend(tokenizer::pairs(model.folder(), &self.config, &asked)?);
        pairs.push(Pair { key: "tokenizer.ggml.mask_token_id".to_owned(), value: Value::U32(mask) });
        Ok(pairs)
    }

    /// Returns a size, by its place in [`SIZES`]. Without a number of their own, there are as many heads of keys as of
    /// queries.
    fn size(&self, number: usize) -> Result<u32, IoError> {
        let key = self.family.sizes[number];
        if number == KEY_HEADS && self.config.get(key).is_none_or(Json::is_null) {
            self.size(HEADS)
        } else {
            self.whole(key)
        }
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
