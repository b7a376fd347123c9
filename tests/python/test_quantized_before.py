"""Sources that another tool quantized: refused by method, file and tensor, in every format, and never read in half."""

import numpy as np
import pytest
from checkpoints import llama, llama_config, load, normal, save, write_json

FORMATS = ["parquet", "arrow", "safetensors", "compressed-tensors", "gguf"]
BASE = "model.layers.0.self_attn.q_proj"
RANDOM = np.random.default_rng(3)


def integers(dtype, *shape):
    return dtype, RANDOM.integers(0, 100, shape)


def scales(*shape, dtype="F16"):
    return dtype, np.abs(normal(*shape)) + 1e-3


def group(**weights):
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "quantization_status": "compressed", "config_groups": groups}


# What marks the method, the tensors beside the rest, and what config.json says.
SOURCES = {
    "GPTQ": (
        {".qweight": integers("I32", 16, 128), ".qzeros": integers("I32", 2, 16), ".scales": scales(2, 128)},
        {"quant_method": "gptq", "bits": 4},
    ),
    "AWQ": (
        {".qweight": integers("I32", 128, 16), ".qzeros": integers("I32", 2, 16), ".scales": scales(2, 128)},
        {"quant_method": "awq", "bits": 4},
    ),
    "Marlin": ({".qweight": integers("I32", 8, 256), ".scales": scales(2, 128)}, None),
    "quanto": ({".weight._data": integers("I8", 128, 128), ".weight._scale": scales(128, 1)}, None),
    "HQQ": ({".W_q": integers("U8", 64, 128), ".scale": scales(256, 1), ".zero": scales(256, 1)}, {"quant_method": "hqq"}),
    "Nunchaku": (
        {".qweight": integers("I8", 128, 64), ".wscales": scales(2, 128), ".proj_down": scales(128, 16), ".proj_up": scales(128, 16)},
        None,
    ),
    "SDNQ": ({".weight": integers("U8", 128, 64), ".scale": scales(128, 2), ".zero_point": scales(128, 2)}, None),
    "bitsandbytes": (
        {".weight": integers("U8", 8192, 1), ".weight.absmax": integers("U8", 256), ".weight.quant_map": scales(16)},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
    ),
    "bitsandbytes (8": ({".weight": integers("I8", 128, 128), ".SCB": scales(128)}, None),
    "NVFP4": (
        {".weight": integers("U8", 128, 64), ".weight_scale": scales(128, 8, dtype="F8_E4M3"), ".weight_scale_2": scales(1)},
        None,
    ),
    "NVFP4 of": (
        {".weight_packed": integers("U8", 128, 64), ".weight_scale": scales(128, 8), ".weight_global_scale": scales(1)},
        group(num_bits=4, type="float"),
    ),
    "INT8": ({".weight": integers("I8", 128, 128), ".weight_scale": scales(128, 1)}, group(num_bits=8, type="int")),
    "Marlin 2:4": (
        {".weight_packed": integers("I32", 8, 256), ".scale_packed": scales(2, 128), ".meta": integers("I32", 64, 8)},
        group(num_bits=4, type="int"),
    ),
    "sparse": ({".compressed": scales(128, 64), ".bitmask": integers("U8", 128, 16), ".shape": integers("I64", 2)}, None),
    "MXFP4": (
        {".experts_blocks": integers("U8", 4, 64, 4, 16), ".experts_scales": integers("U8", 4, 64, 4)},
        {"quant_method": "mxfp4"},
    ),
    "AQLM": ({".codes": integers("I8", 16, 16, 1), ".codebooks": scales(1, 256, 1, 8), ".scales": scales(128, 1)}, None),
    "EXL3": ({".trellis": integers("I32", 8, 8, 64), ".suh": scales(128), ".svh": scales(128)}, None),
    "EETQ": ({".weight": integers("I8", 128, 128), ".weight_scales": scales(128)}, {"quant_method": "eetq"}),
    "torchao": ({"._weight_qdata": integers("I8", 128, 128), "._weight_scale": scales(128, 4)}, {"quant_method": "torchao"}),
}


@pytest.mark.parametrize("method", SOURCES)
def test_codes_of_another_tool_are_refused_in_one_line(program, fails, tmp_path, method):
    tensors, said = SOURCES[method]
    rest = {name: tensor for name, tensor in llama().items() if ".q_proj" not in name}
    save(tmp_path / "in" / "model.safetensors", rest | {BASE + suffix: tensor for suffix, tensor in tensors.items()})
    write_json(tmp_path / "in" / "config.json", llama_config(**({"quantization_config": said} if said else {})))
    for form in FORMATS:
        message = fails("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", form)
        assert method in message and f"model.safetensors: tensor '{BASE}" in message, message
        assert "quantized already" in message and message.count("\n") == 1, message
        assert not (tmp_path / "out").exists()
    assert message == fails("quantize", tmp_path / "in", "--dry-run", "--format", form)
    assert BASE in program("inspect", tmp_path / "in")


@pytest.mark.parametrize("place", ["quantization_config", "quantization", "text_config"])
def test_a_configuration_of_another_tool_is_refused(fails, tmp_path, place):
    said = {"quant_method": "auto-round", "bits": 4}
    save(tmp_path / "in" / "model.safetensors", llama())
    more = {place: {"quantization_config": said} if place == "text_config" else said}
    write_json(tmp_path / "in" / "config.json", llama_config(**more))
    for form in FORMATS:
        message = fails("quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", form)
        assert "config.json: says that the model is quantized with auto-round, which is not read" in message, message


@pytest.mark.parametrize("order", ["none", "in order", "by activation"])
def test_groups_in_the_order_of_activations_are_told_from_those_in_order(program, fails, tmp_path, order):
    codes, scale = RANDOM.integers(-8, 8, (64, 128)), np.abs(normal(64, 2)) + 1e-2
    shifts = np.arange(8, dtype=np.uint64) * 4
    words = ((codes + 8).astype(np.uint64).reshape(64, 16, 8) << shifts).sum(-1).astype(np.uint32).view(np.int32)
    index = {"none": -np.ones(128), "in order": np.arange(128) // 64, "by activation": RANDOM.permutation(128) // 64}[order]
    save(
        tmp_path / "in" / "model.safetensors",
        {
            f"{BASE}.weight_packed": ("I32", words),
            f"{BASE}.weight_scale": ("F32", scale),
            f"{BASE}.weight_shape": ("I64", np.array([64, 128])),
            f"{BASE}.weight_g_idx": ("I32", index),
        },
    )
    write_json(tmp_path / "in" / "config.json", llama_config(quantization_config=group(num_bits=4, type="int", group_size=64)))
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "safetensors", "--exclude", "q_proj"]
    if order == "by activation":
        assert "groups in the order of activations are not read" in fails(*run)
        return
    program(*run)
    decoded = load(tmp_path / "out" / "model.safetensors")
    assert list(decoded) == [f"{BASE}.weight"]
    expected = codes * np.float32(scale).repeat(64, 1)
    np.testing.assert_allclose(decoded[f"{BASE}.weight"][1], expected, rtol=1e-6)
