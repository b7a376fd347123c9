//! The layers that the factors of an input can be folded into, as name patterns per architecture.
//!
//! A factor `s` of an input channel multiplies the weights of that channel, and what gives the channel is divided by it.
//! That is the function of the network as it was only where nothing else takes that channel, and where what lies between
//! is linear in it. Both are known of an architecture, not of a name, so the table is looked up by what `config.json`
//! says the model is. What is not in it is left for run time.

/// The pattern that the blocks of some architectures share.
#[derive(Debug)]
pub struct Architecture {
    /// `model_type` or `_class_name` of `config.json`.
    pub names: &'static [&'static str],
    /// A key of `config.json` and what it may say, where it is there: with anything else the rules do not hold.
    pub unless: Option<(&'static str, &'static [&'static str])>,
    /// The inputs that have a layer before them. The first rule that a layer fits counts.
    pub rules: &'static [Rule],
}

/// The layers that share one input, and what gives it.
///
/// All names are those of modules, from the number of their block on: `mlp.up_proj` is `BLOCK.mlp.up_proj.weight`, and its
/// bias where it has one.
#[derive(Debug)]
pub struct Rule {
    /// All that take the input: every one must be there.
    pub consumers: &'static [&'static str],
    /// All that give it.
    pub producers: &'static [Producer],
}

/// The producer of an input's channels.
#[derive(Debug)]
pub enum Producer {
    /// A norm that multiplies by its weight, and adds its bias where it has one.
    Norm(&'static str),
    /// A linear layer: one part of its rows, of so many equal parts.
    Linear(&'static str, Part),
    /// The same, but the input is multiplied by 1 and what it gives: its bias carries the 1 as well.
    OnePlus(&'static str, Part),
}

/// One part of the rows of a layer, counted from 0, of so many equal parts.
#[derive(Debug, Clone, Copy)]
pub struct Part(pub usize, pub usize);

/// All rows.
const ALL: Part = Part(0, 1);

/// Attention and the gated MLP of `LLaMA`. Values reach the output projection head by head: with fewer heads for keys and
/// values than for queries several channels share a row, and the shapes do not fit.
const LLAMA: &[Rule] = &[
    Rule {
        consumers: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
        producers: &[Producer::Norm("input_layernorm")],
    },
    Rule { consumers: &["mlp.gate_proj", "mlp.up_proj"], producers: &[Producer::Norm("post_attention_layernorm")] },
    Rule { consumers: &["self_attn.o_proj"], producers: &[Producer::Linear("self_attn.v_proj", ALL)] },
    Rule { consumers: &["mlp.down_proj"], producers: &[Producer::Linear("mlp.up_proj", ALL)] },
];

/// The same in `LLaDA`'s names: `ff_proj` is the gate.
const LLADA: &[Rule] = &[
    Rule { consumers: &["q_proj", "k_proj", "v_proj"], producers: &[Producer::Norm("attn_norm")] },
    Rule { consumers: &["ff_proj", "up_proj"], producers: &[Producer::Norm("ff_norm")] },
    Rule { consumers: &["attn_out"], producers: &[Producer::Linear("v_proj", ALL)] },
    Rule { consumers: &["ff_out"], producers: &[Producer::Linear("up_proj", ALL)] },
];

/// adaLN-zero as in the paper on diffusion transformers: shift, scale and gate of attention, then those of the MLP. The GELU between the two
/// layers of the MLP lets nothing through.
const DIT: &[Rule] = &[
    Rule {
        consumers: &["attn.qkv"],
        producers: &[
            Producer::Linear("adaLN_modulation.1", Part(0, 6)),
            Producer::OnePlus("adaLN_modulation.1", Part(1, 6)),
        ],
    },
    Rule {
        consumers: &["mlp.fc1"],
        producers: &[
            Producer::Linear("adaLN_modulation.1", Part(3, 6)),
            Producer::OnePlus("adaLN_modulation.1", Part(4, 6)),
        ],
    },
    Rule { consumers: &["attn.proj"], producers: &[Producer::Linear("attn.qkv", Part(2, 3))] },
];

/// The same blocks in diffusers' names.
const DIFFUSERS_DIT: &[Rule] = &[
    Rule {
        consumers: &["attn1.to_q", "attn1.to_k", "attn1.to_v"],
        producers: &[Producer::Linear("norm1.linear", Part(0, 6)), Producer::OnePlus("norm1.linear", Part(1, 6))],
    },
    Rule {
        consumers: &["ff.net.0.proj"],
        producers: &[Producer::Linear("norm1.linear", Part(3, 6)), Producer::OnePlus("norm1.linear", Part(4, 6))],
    },
    Rule { consumers: &["attn1.to_out.0"], producers: &[Producer::Linear("attn1.to_v", ALL)] },
];

/// Blocks of two streams, image and text, that attend to each other: every value reaches both outputs.
const TWO_STREAMS: &[Rule] = &[
    Rule {
        consumers: &["attn.to_q", "attn.to_k", "attn.to_v"],
        producers: &[Producer::Linear("norm1.linear", Part(0, 6)), Producer::OnePlus("norm1.linear", Part(1, 6))],
    },
    Rule {
        consumers: &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"],
        producers: &[
            Producer::Linear("norm1_context.linear", Part(0, 6)),
            Producer::OnePlus("norm1_context.linear", Part(1, 6)),
        ],
    },
    Rule {
        consumers: &["ff.net.0.proj"],
        producers: &[Producer::Linear("norm1.linear", Part(3, 6)), Producer::OnePlus("norm1.linear", Part(4, 6))],
    },
    Rule {
        consumers: &["ff_context.net.0.proj"],
        producers: &[
            Producer::Linear("norm1_context.linear", Part(3, 6)),
            Producer::OnePlus("norm1_context.linear", Part(4, 6)),
        ],
    },
    Rule {
        consumers: &["attn.to_out.0", "attn.to_add_out"],
        producers: &[Producer::Linear("attn.to_v", ALL), Producer::Linear("attn.add_v_proj", ALL)],
    },
    // The single stream of Flux: attention and MLP take the same input.
    Rule {
        consumers: &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
        producers: &[Producer::Linear("norm.linear", Part(0, 3)), Producer::OnePlus("norm.linear", Part(1, 3))],
    },
];

/// The table.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { names: &["llama", "mistral", "qwen2", "qwen3", "Dream"], unless: None, rules: LLAMA },
    Architecture {
        names: &["llada"],
        // The norm `gemma_rms` multiplies by 1 and its weight.
        unless: Some(("layer_norm_type", &["rms", "default", "low_precision"])),
        rules: LLADA,
    },
    Architecture { names: &["digits_dit"], unless: None, rules: DIT },
    Architecture { names: &["DiTTransformer2DModel", "Transformer2DModel"], unless: None, rules: DIFFUSERS_DIT },
    Architecture { names: &["SD3Transformer2DModel", "FluxTransformer2DModel"], unless: None, rules: TWO_STREAMS },
];
