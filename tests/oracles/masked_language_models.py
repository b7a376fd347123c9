"""Dream and LLaDA, tiny, with the names, configuration and tokenizers of the real ones."""

import json

import numpy as np
from safetensors.numpy import save_file

HIDDEN, FEED, HEADS, HEADS_KV, VOCABULARY, BLOCKS = 256, 512, 8, 4, 96, 2
HEAD = HIDDEN // HEADS
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLADA = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"

TEXTS = [*"abcdefgh", "Ġ", "ab", "cd", "Ġa", "Ġab"]
MERGES = [("a", "b"), ("c", "d"), ("Ġ", "a"), ("Ġ", "ab")]
ADDED = {20: ("<|end|>", True), 21: ("<|mask|>", True), 22: ("<tool>", False)}
SETTINGS = {
    "added_tokens_decoder": {str(i): {"content": text, "special": special} for i, (text, special) in ADDED.items()},
    "eos_token": "<|end|>",
    "pad_token": {"content": "<|end|>"},
    "add_bos_token": False,
    "chat_template": "{{ messages }}",
}


def matrix(rows, length, seed):
    return np.random.default_rng(seed).normal(0, 0.02, (rows, length)).astype(np.float32)


def write(folder, config, names, sizes_kv):
    """A checkpoint of two blocks with the names given, and its tensors."""
    folder.mkdir()
    shapes = {
        "q": (HIDDEN, HIDDEN), "k": (sizes_kv, HIDDEN), "v": (sizes_kv, HIDDEN), "o": (HIDDEN, HIDDEN),
        "gate": (FEED, HIDDEN), "up": (FEED, HIDDEN), "down": (HIDDEN, FEED),
    }  # fmt: skip
    tensors = {names["embedding"]: matrix(VOCABULARY, HIDDEN, 90), names["head"]: matrix(VOCABULARY, HIDDEN, 91)}
    tensors[names["norm"]] = matrix(1, HIDDEN, 92)[0]
    for block in range(BLOCKS):
        for number, (kind, shape) in enumerate(shapes.items()):
            tensors[names[kind].format(block)] = matrix(*shape, 10 * block + number)
        for kind in ("norm_1", "norm_2", *(["bias_k"] if "bias_k" in names else [])):
            tensors[names[kind].format(block)] = matrix(1, sizes_kv if kind == "bias_k" else HIDDEN, 50 + block)[0]
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(SETTINGS))
    return folder, tensors


def dream(folder):
    """A Dream checkpoint of two blocks with its tokenizer, and its tensors."""
    layer = "model.layers.{}."
    names = {
        "embedding": "model.embed_tokens.weight", "head": "lm_head.weight", "norm": "model.norm.weight",
        "norm_1": layer + "input_layernorm.weight", "norm_2": layer + "post_attention_layernorm.weight",
        "bias_k": layer + "self_attn.k_proj.bias",
        **{kind: layer + f"self_attn.{kind}_proj.weight" for kind in "qkvo"},
        **{kind: layer + f"mlp.{kind}_proj.weight" for kind in ("gate", "up", "down")},
    }  # fmt: skip
    config = {
        "architectures": ["DreamModel"], "model_type": "Dream", "_name_or_path": "someone/Dream-tiny",
        "num_hidden_layers": BLOCKS, "max_position_embeddings": 2048, "hidden_size": HIDDEN,
        "intermediate_size": FEED, "num_attention_heads": HEADS, "num_key_value_heads": HEADS_KV,
        "rope_theta": 1000000.0, "rms_norm_eps": 1e-6, "mask_token_id": 21, "vocab_size": VOCABULARY,
        "bos_token_id": 20, "rope_scaling": None,
    }  # fmt: skip
    folder, tensors = write(folder, config, names, HEADS_KV * HEAD)
    (folder / "vocab.json").write_text(json.dumps({text: i for i, text in enumerate(TEXTS)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES))
    return folder, tensors


def llada(folder):
    """A LLaDA checkpoint of two blocks with its tokenizer, and its tensors."""
    block = "model.transformer.blocks.{}."
    names = {
        "embedding": "model.transformer.wte.weight", "head": "model.transformer.ff_out.weight",
        "norm": "model.transformer.ln_f.weight",
        "norm_1": block + "attn_norm.weight", "norm_2": block + "ff_norm.weight",
        "q": block + "q_proj.weight", "k": block + "k_proj.weight", "v": block + "v_proj.weight",
        "o": block + "attn_out.weight", "gate": block + "ff_proj.weight", "up": block + "up_proj.weight",
        "down": block + "ff_out.weight",
    }  # fmt: skip
    config = {
        "architectures": ["LLaDAModelLM"], "model_type": "llada", "n_layers": BLOCKS, "max_sequence_length": 4096,
        "d_model": HIDDEN, "mlp_hidden_size": FEED, "n_heads": HEADS, "n_kv_heads": HEADS_KV, "rope_theta": 500000.0,
        "rms_norm_eps": 1e-5, "mask_token_id": 21, "vocab_size": VOCABULARY, "eos_token_id": 20, "pad_token_id": 20,
    }  # fmt: skip
    folder, tensors = write(folder, config, names, HEADS_KV * HEAD)
    tokenizer = {
        "added_tokens": [{"id": i, "content": text, "special": special} for i, (text, special) in ADDED.items()],
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Split", "pattern": {"Regex": LLADA}}, {"type": "ByteLevel"}],
        },
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(TEXTS)}, "merges": [list(m) for m in MERGES]},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder, tensors
