"""Decodes the `pack-quantized` format of compressed-tensors with NumPy, from what the format says.

Of a module `m`: `m.weight_packed` (I32, a dense bit stream per row, least significant bit first, codes plus 2^(bits-1)),
`m.weight_scale`, `m.weight_shape`, and where there are zero points `m.weight_zero_point`, packed down the columns.

    weight = (code - zero_point) * scale, in the dtype of the scale
"""

import json
import re
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file

assert ml_dtypes.bfloat16 is not None


def unpack(words, bits, count):
    """`count` codes of each row of 32-bit words, signed."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    if any(stream[:, count * bits :].reshape(-1)):
        raise ValueError("the bits after the last code are zero")
    codes = stream[:, : count * bits].reshape(len(words), count, bits).astype(np.int64) @ (1 << np.arange(bits))
    return codes - (1 << (bits - 1))


def decode(name, tensors, weights):
    """A module's weights, as `weights` of its config group describes them."""
    bits, scale = weights["num_bits"], tensors[f"{name}.weight_scale"]
    rows, length = tensors[f"{name}.weight_shape"].tolist()
    packed = tensors[f"{name}.weight_packed"]
    assert packed.dtype == np.int32 and packed.shape == (rows, -(-length * bits // 32))
    groups = 1 if weights["strategy"] == "channel" else length // weights["group_size"]
    assert scale.shape == (rows, groups)
    codes = unpack(packed, bits, length).astype(scale.dtype)
    if weights["symmetric"]:
        assert f"{name}.weight_zero_point" not in tensors
    else:
        zero_point = tensors[f"{name}.weight_zero_point"]
        assert zero_point.dtype == np.int32 and zero_point.shape == (-(-rows * bits // 32), groups)
        zero_point = unpack(zero_point.T, bits, rows).T
        codes = codes - np.repeat(zero_point, length // groups, axis=1).astype(scale.dtype)
    return codes * np.repeat(scale, length // groups, axis=1)


def named(module, names):
    """Whether one of some names, or of the patterns after `re:`, names a module."""
    return any(re.match(name[3:], module) if name.startswith("re:") else name == module for name in names)


def read_packed_folder(folder):
    """All tensors of a folder, decoded; and the names of the modules that were packed."""
    folder = Path(folder)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(path))
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    modules = [name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")]
    decoded, used = {}, set()
    for module in modules:
        groups = [g for g in config["config_groups"].values() if named(module, g["targets"])]
        assert len(groups) == 1 and not named(module, config["ignore"])
        decoded[f"{module}.weight"] = decode(module, tensors, groups[0]["weights"])
        used |= {f"{module}.weight_{part}" for part in ("packed", "scale", "shape", "zero_point")}
    return decoded | {name: tensor for name, tensor in tensors.items() if name not in used}, modules
