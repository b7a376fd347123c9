"""Small models, made without the code under test."""

import json
import random
import struct
from math import prod

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "F8_E4M3": 1, "U8": 1}


def numbers(dtype, count, rng):
    """`count` values of a dtype, about normal."""
    values = [rng.gauss(0, 0.05) for _ in range(count)]
    if dtype == "F32":
        return struct.pack(f"<{count}f", *values)
    if dtype == "F64":
        return struct.pack(f"<{count}d", *values)
    if dtype == "F16":
        return struct.pack(f"<{count}e", *values)
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    if dtype == "I64":
        return struct.pack(f"<{count}q", *range(count))
    return bytes(rng.randrange(0x70) for _ in range(count))


def safetensors(tensors, rng, metadata=None):
    """The bytes of a file of tensors {name: (dtype, shape)} or {name: (dtype, shape, bytes)}."""
    header, data = {"__metadata__": metadata} if metadata else {}, b""
    for name, (dtype, shape, *content) in tensors.items():
        content = content[0] if content else numbers(dtype, prod(shape), rng)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "num_attention_heads": 4}


def write_model(folder, seed, layers=2, width=256):
    """A folder with two shards, an index, a configuration and a tokenizer: 14 tensors, 0.5 MB."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    shards = [{}, {}]
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shards[layer % 2] |= {
            f"{at}.input_layernorm.weight": ("F32", [width]),
            f"{at}.self_attn.q_proj.weight": ("F32", [width // 4, width]),
            f"{at}.self_attn.k_proj.weight": ("BF16", [width // 8, width]),
            f"{at}.self_attn.v_proj.weight": ("BF16", [width // 8, width]),
            f"{at}.self_attn.o_proj.weight": ("F16", [width // 4, width]),
            f"{at}.mlp.down_proj.weight": ("F32", [width // 4, width]),
        }
    shards[0]["model.embed_tokens.weight"] = ("F16", [32, width])
    shards[1]["position_ids"] = ("I64", [1, 16])
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05}-of-00002.safetensors"
        (folder / name).write_bytes(safetensors(tensors, rng, {"format": "pt"}))
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}}}))
    return folder


def write_large_model(folder, seed, parts=2):
    """A folder with a file of several parts, which are cut at 16 MiB of such a model: 5 tensors for each."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    rows, width = 16 * 256 // 5, 2048
    noise = numbers("BF16", 100_003, rng)
    data = noise * (rows * width * 2 // len(noise) + 2)
    tensors = {}
    for number in range(5 * parts):
        start = 2 * rng.randrange(len(noise) // 2)
        tensors[f"layers.{number}.weight"] = ("BF16", [rows, width], data[start : start + rows * width * 2])
    (folder / "model.safetensors").write_bytes(safetensors(tensors, rng))
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder
