"""Decodes the layers of a folder of MLX with NumPy, from what the format says.

Of a layer `m`: `m.weight` (U32, a dense bit stream per row, least significant bit first), `m.scales`, and of the mode
`affine` `m.biases`. `config.json` says the mode, the bits and the size of the groups, for all layers and for some.

    affine: weight = code * scale + bias, product and sum rounded to the dtype of the scale
    mxfp4, mxfp8: weight = E2M1 or E4M3 * 2^(scale - 127);  nvfp4: weight = E2M1 * E4M3
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file


def codes_of(words, bits):
    """The codes of each row of 32-bit words."""
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return stream.reshape(*words.shape[:-1], -1, bits).astype(np.int64) @ (1 << np.arange(bits))


def decode(words, scales, biases, said):
    """A layer's weights in float32."""
    bits, size = said["bits"], said["group_size"]
    codes = codes_of(words, bits)
    each = lambda numbers: np.repeat(numbers, size, axis=-1)
    if said["mode"] == "affine":
        assert scales.dtype == biases.dtype and scales.shape == biases.shape
        product = (codes.astype(np.float32) * each(scales).astype(np.float32)).astype(scales.dtype)
        return (product.astype(np.float32) + each(biases).astype(np.float32)).astype(scales.dtype).astype(np.float32)
    assert biases is None and scales.dtype == np.uint8
    if said["mode"] == "nvfp4":
        factors = scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    else:
        factors = np.exp2(scales.astype(np.float32) - 127)
    if said["mode"] == "mxfp8":
        small = codes.astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    else:
        small = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)[codes & 7] * np.where(codes & 8, -1, 1)
    return (small * each(factors)).astype(np.float32)


def read_mlx_folder(folder):
    """All tensors of a folder, those of layers decoded; and what is said of each layer that is quantized."""
    tensors = {}
    for path in sorted(Path(folder).glob("model*.safetensors")):
        tensors.update(load_file(path))
    config = json.loads((Path(folder) / "config.json").read_text())
    assert config["quantization"] == config["quantization_config"]
    whole = {key: config["quantization"][key] for key in ("group_size", "bits", "mode")}
    layers = {}
    for name in [name for name in tensors if name.endswith(".scales")]:
        module = name.removesuffix(".scales")
        layers[module] = config["quantization"].get(module, whole)
        biases = tensors.pop(f"{module}.biases", None)
        tensors[f"{module}.weight"] = decode(tensors[f"{module}.weight"], tensors.pop(name), biases, layers[module])
    for name, said in config["quantization"].items():
        assert name in whole or said is not False or name not in layers
    return tensors, layers
