//! A byte-level BPE tokenizer as the pairs that llama.cpp reads it from.
//!
//! From `tokenizer.json`, or from `vocab.json` and `merges.txt`; what is special stands in `tokenizer_config.json`.

use std::{collections::BTreeMap, path::Path};

use serde_json::{Map, Value as Json};

use crate::storage::{
    error::IoError,
    gguf::value::{Pair, Value},
};

/// The facts known of the tokenizer beforehand.
pub(super) struct Asked<'a> {
    /// The number of tokens to write, as many as the embedding has rows.
    pub tokens: usize,
    /// `tokenizer.ggml.pre` where the files do not say.
    pub pre: Option<&'a str>,
    /// True if that overrides the files.
    pub pre_is_given: bool,
    /// `tokenizer.ggml.add_bos_token`. `None` means as the files say.
    pub add_bos: Option<bool>,
}

/// The kinds of tokens, by their numbers in GGUF.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

/// The ways to split text before it is encoded: the pattern in `tokenizer.json`, and llama.cpp's name for it.
const PATTERNS: [(&str, &str); 3] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "qwen2",
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        "llama-bpe",
    ),
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        "bailingmoe",
    ),
];

/// The tokens by their numbers, each with its kind, and the merges.
#[derive(Default)]
struct Vocabulary {
    tokens: BTreeMap<usize, (String, i32)>,
    merges: Vec<String>,
}

/// Returns the pairs of the tokenizer in `folder`. `config` is the model's, which may name special tokens by their
/// numbers.
///
/// # Errors
/// Returns an error if there is no tokenizer, or one that is not byte-level BPE, splits text in a way that is not
/// known, or has a token that the model has not.
pub(super) fn pairs(folder: &Path, config: &Map<String, Json>, asked: &Asked) -> Result<Vec<Pair>, IoError> {
    let settings = read(folder, "tokenizer_config.json")?.unwrap_or_default();
    let mut vocabulary = Vocabulary::default();
    let mut pre = asked.pre.map(str::to_owned);
    if let Some(json) = read(folder, "tokenizer.json")? {
        vocabulary.of_tokenizer(&json).map_err(|problem| IoError::file(&folder.join("tokenizer.json"), problem))?;
        if !asked.pre_is_given {
            pre = Some(
                split(&json["pre_tokenizer"])
                    .map_err(|problem| IoError::file(&folder.join("tokenizer.json"), problem))?,
            );
        }
    } else {
        vocabulary.of_lists(folder)?;
    }
    vocabulary.add(&settings["added_tokens_decoder"]);
    let pre = pre.ok_or_else(|| {
        IoError::file(
            folder,
            "has no tokenizer.json that says how text is split; `gguf_pre` NAME says it for llama.cpp",
        )
    })?;
    if let Some((number, (token, _))) = vocabulary.tokens.range(asked.tokens..).next() {
        let problem = format!("has the token '{token}' as number {number}, and the model has {} tokens", asked.tokens);
        return Err(IoError::file(folder, problem));
    }
    let (texts, kinds): (Vec<String>, Vec<i32>) = (0..asked.tokens)
        .map(|number| vocabulary.tokens.get(&number).cloned().unwrap_or_else(|| (format!("[PAD{number}]"), UNUSED)))
        .unzip();
    let mut pairs = Vec::new();
    let mut add = |key: &str, value: Value| pairs.push(Pair { key: format!("tokenizer.{key}"), value });
    add("ggml.model", Value::String("gpt2".to_owned()));
    add("ggml.pre", Value::String(pre));
    add("ggml.tokens", Value::strings(texts.iter().map(String::as_str)));
    add("ggml.token_type", Value::i32s(&kinds));
    add("ggml.merges", Value::strings(vocabulary.merges.iter().map(String::as_str)));
    for (what, key) in [("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")] {
        let named = &settings[format!("{what}_token")];
        let text = named.as_str().or_else(|| named["content"].as_str());
        let number = text.and_then(|text| vocabulary.number(text));
        let numbered = || config.get(&format!("{what}_token_id"))?.as_u64();
        let number = number.map(|number| number as u64).or_else(numbered).and_then(|number| u32::try_from(number).ok());
        if let Some(number) = number {
            add(&format!("ggml.{key}_token_id"), Value::U32(number));
        }
    }
    for (what, given) in [("bos", asked.add_bos), ("eos", None)] {
        if let Some(adds) = given.or_else(|| settings[format!("add_{what}_token")].as_bool()) {
            add(&format!("ggml.add_{what}_token"), Value::Bool(adds));
        }
    }
    let template = folder.join("chat_template.jinja");
    let template = if template.is_file() {
        Some(std::fs::read_to_string(&template).map_err(IoError::system("read", &template))?)
    } else {
        settings["chat_template"].as_str().map(str::to_owned)
    };
    if let Some(template) = template {
        add("chat_template", Value::String(template));
    }
    Ok(pairs)
}

/// Reads a JSON file of the folder; `None` if it is not there.
fn read(folder: &Path, name: &str) -> Result<Option<Json>, IoError> {
    let path = folder.join(name);
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(IoError::system("read", &path))?;
    serde_json::from_slice(&text).map(Some).map_err(|error| IoError::file(&path, format!("is not JSON: {error}")))
}

/// Returns the name of the pattern that text is split by.
fn split(pre_tokenizer: &Json) -> Result<String, String> {
    let steps = match pre_tokenizer["pretokenizers"].as_array() {
        Some(steps) => steps.iter().collect(),
        None => vec![pre_tokenizer],
    };
    let pattern = steps.iter().find_map(|step| step["pattern"]["Regex"].as_str());
    let known = PATTERNS.iter().find(|(known, _)| Some(*known) == pattern).map(|(_, name)| (*name).to_owned());
    known.ok_or_else(|| {
        let pattern = pattern.unwrap_or("none");
        format!("splits text by a pattern that is not known ({pattern}); `gguf_pre` NAME says what llama.cpp calls it")
    })
}

impl Vocabulary {
    fn of_tokenizer(&mut self, json: &Json) -> Result<(), String> {
        let model = &json["model"];
        if model["type"] != "BPE" {
            return Err(format!("is a tokenizer of type {}; BPE is written to GGUF", model["type"]));
        }
        let vocabulary = model["vocab"].as_object().ok_or("has no vocabulary")?;
        for (token, number) in vocabulary {
            self.insert(token, number)?;
        }
        for merge in model["merges"].as_array().ok_or("has no merges")? {
            let merge = match merge.as_array().map(Vec::as_slice) {
                // A space in a pair would look like the one between its two parts.
                Some([Json::String(a), Json::String(b)]) => format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ")),
                _ => merge.as_str().ok_or("has an invalid merge: expected a string or a pair of strings")?.to_owned(),
            };
            self.merges.push(merge);
        }
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            if let Some(number) = token["id"].as_u64() {
                self.add_one(number as usize, token);
            }
        }
        Ok(())
    }

    /// Reads `vocab.json` and `merges.txt`.
    fn of_lists(&mut self, folder: &Path) -> Result<(), IoError> {
        let (names, path) = (read(folder, "vocab.json")?, folder.join("merges.txt"));
        let Some(names) = names.filter(|_| path.is_file()) else {
            let problem = "has no tokenizer, without which llama.cpp loads no language model; looked for tokenizer.json, \
                           and for vocab.json and merges.txt (--gguf-architecture NAME writes the tensors alone, by the \
                           names that they have)";
            return Err(IoError::file(folder, problem));
        };
        let wrong = |problem: String| IoError::file(&folder.join("vocab.json"), problem);
        for (token, number) in names.as_object().ok_or_else(|| wrong("is not a JSON object".to_owned()))? {
            self.insert(token, number).map_err(wrong)?;
        }
        let text = std::fs::read_to_string(&path).map_err(IoError::system("read", &path))?;
        let merges = text.lines().filter(|line| !line.is_empty() && !line.starts_with("#version"));
        self.merges = merges.map(str::to_owned).collect();
        if let Some(added) = read(folder, "added_tokens.json")?.as_ref().and_then(Json::as_object) {
            for (token, number) in added {
                // What says no more of them is taken for special, as the converter does.
                self.insert(token, number).map_err(wrong)?;
                self.mark(number, CONTROL);
            }
        }
        Ok(())
    }

    fn insert(&mut self, token: &str, number: &Json) -> Result<(), String> {
        let number = number.as_u64().ok_or_else(|| format!("the number of the token '{token}' is {number}"))?;
        self.tokens.insert(number as usize, (token.to_owned(), NORMAL));
        Ok(())
    }

    fn mark(&mut self, number: &Json, kind: i32) {
        let number = number.as_u64().map(|number| number as usize);
        if let Some((_, known)) = number.and_then(|number| self.tokens.get_mut(&number)) {
            *known = kind;
        }
    }

    /// `added_tokens_decoder`: numbers and what they stand for.
    fn add(&mut self, decoder: &Json) {
        for (number, token) in decoder.as_object().into_iter().flatten() {
            if let Ok(number) = number.parse() {
                self.add_one(number, token);
            }
        }
    }

    fn add_one(&mut self, number: usize, token: &Json) {
        if let Some(text) = token["content"].as_str() {
            let kind = if token["special"] == true { CONTROL } else { USER_DEFINED };
            self.tokens.insert(number, (text.to_owned(), kind));
        }
    }

    fn number(&self, text: &str) -> Option<usize> {
        // Special tokens are among the last.
        self.tokens.iter().rev().find(|(_, (token, _))| token == text).map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_that_splits_text_gives_the_name() {
        let step = |pattern: &str| serde_json::json!({ "type": "Split", "pattern": { "Regex": pattern } });
        for (pattern, name) in PATTERNS {
            assert_eq!(split(&step(pattern)).as_deref(), Ok(name));
            let among = serde_json::json!({ "pretokenizers": [step(pattern), { "type": "ByteLevel" }] });
            assert_eq!(split(&among).as_deref(), Ok(name));
        }
        let error = split(&step(r"\w+")).unwrap_err();
        assert!(error.contains(r"not known (\w+)") && error.contains("`gguf_pre`"), "{error}");
        assert!(split(&Json::Null).unwrap_err().contains("(none)"));
    }
}
