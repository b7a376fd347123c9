"""Small checkpoints as people have them, written byte by byte so that odd ones can be made too."""

import json
import struct
from pathlib import Path

import ml_dtypes
import numpy as np

DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "U32": np.uint32,
    "BOOL": np.bool_,
}

LLAMA = {
    "self_attn.q_proj": (128, 128),
    "self_attn.k_proj": (128, 128),
    "self_attn.v_proj": (128, 128),
    "self_attn.o_proj": (128, 128),
    "mlp.gate_proj": (256, 128),
    "mlp.up_proj": (256, 128),
    "mlp.down_proj": (128, 256),
}


def save(path, tensors, metadata=None):
    """Writes a safetensors file of name -> (dtype, array)."""
    header, body = {}, bytearray()
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, array) in tensors.items():
        data = np.asarray(array).astype(DTYPES[dtype]).tobytes()
        header[name] = {"dtype": dtype, "shape": list(np.shape(array)), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))


def load(path):
    """Reads a safetensors file as name -> (dtype, array)."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = (entry["dtype"], array)
    return tensors


def write_json(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value))


def normal(*shape, seed=0, std=0.02):
    return np.random.default_rng(seed).normal(0, std, shape).astype(np.float32)


def llama(head=True):
    """A LLaMA of one layer in BF16."""
    tensors = {
        "model.embed_tokens.weight": ("BF16", normal(96, 128, seed=90)),
        "model.norm.weight": ("BF16", np.ones(128)),
        "model.layers.0.input_layernorm.weight": ("BF16", np.ones(128)),
    }
    for seed, (name, shape) in enumerate(LLAMA.items()):
        tensors[f"model.layers.0.{name}.weight"] = ("BF16", normal(*shape, seed=seed))
    if head:
        tensors["lm_head.weight"] = ("BF16", normal(96, 128, seed=91))
    return tensors


def llama_config(**more):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 96,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    return config | more


def quantized_layers(tensors):
    """The names of the linear layers inside the blocks."""
    return [name for name in tensors if ".self_attn." in name or ".mlp." in name]


def fp8(weights, scale):
    """Codes of E4M3 for weights / scale; scale broadcasts."""
    return np.clip(weights / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn)
