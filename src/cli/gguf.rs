//! The options of `--format gguf`.

use crate::{
    io::export::{GgufOptions, Misfit},
    types::Encoding,
};

// Not as comments, in which a type's name would have to be marked as code.
const TYPE: &str =
    "The type of the quantized tensors of --format gguf: Q4_K, Q8_0 ..., F16, BF16 or F32 [default: by --bits]";
const TYPE_FOR: &str = "The type of the quantized tensors whose name in the source matches, such as 'ffn_down=Q6_K'; the last \
                        match counts; may be repeated";

const ARCHITECTURE: &str = "The general.architecture of --format gguf, such as flux; tensors then keep their names [default: \
                            by the names of the tensors; Dream and LLaDA, by config.json, as llama.cpp has them]";
const PRE: &str = "What llama.cpp calls the pattern by which the tokenizer of Dream or LLaDA splits text, such as qwen2 \
                   [default: by tokenizer.json]";

#[derive(Debug, clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[arg(long, value_name = "TYPE", help = TYPE, conflicts_with_all = ["bits", "bits_for"],
          value_parser = GgufOptions::parse_kind)]
    gguf_type: Option<Encoding>,
    #[arg(long, value_name = "REGEX=TYPE", help = TYPE_FOR)]
    gguf_type_for: Vec<String>,
    /// A tensor whose rows do not divide into blocks of its type: error, keep (as it is) or fallback (to a type of 32
    /// weights where that fits, otherwise keep)
    #[arg(long, default_value = "fallback")]
    misfit: Misfit,
    #[arg(long, value_name = "NAME", help = ARCHITECTURE)]
    gguf_architecture: Option<String>,
    #[arg(long, value_name = "NAME", help = PRE)]
    gguf_pre: Option<String>,
}

impl Arguments {
    pub fn options(&self) -> GgufOptions {
        GgufOptions {
            kind: self.gguf_type,
            kind_for: self.gguf_type_for.clone(),
            misfit: self.misfit,
            architecture: self.gguf_architecture.clone(),
            pre: self.gguf_pre.clone(),
        }
    }
}
