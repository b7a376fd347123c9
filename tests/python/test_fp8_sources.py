"""fp8 as people have it: decoded with its scale in every output, and nothing left that says otherwise."""

import json

import gguf
import ml_dtypes
import numpy as np
import pytest
from checkpoints import fp8, llama, llama_config, load, normal, quantized_layers, save, write_json

ENGINES = ["safetensors", "compressed-tensors", "gguf"]


def said(**more):
    return {"quant_method": "fp8", "activation_scheme": "dynamic", **more}


def blocks(weights, tall, wide):
    rows, columns = weights.shape
    return np.abs(weights).reshape(rows // tall, tall, columns // wide, wide).max((1, 3)) / 448


# How the scales of a weight are stored: the suffix after the module, the dtype, and the shape of what shares one.
SCALES = {
    "tensor": (".weight_scale", "F32", None),
    "one element": (".weight_scale", "BF16", [1]),
    "comfy": (".scale_weight", "F32", None),
    "row": (".weight_scale", "F32", "row"),
    "deepseek": (".weight_scale_inv", "F32", (128, 128)),
    "compressed": (".weight_scale", "BF16", (128, 128)),
    "small blocks": (".weight_scale_inv", "F32", (32, 64)),
    "mx": (".weight_scale", "F8_E8M0", (1, 32)),
    "exponents of blocks": (".scale", "F8_E8M0", (128, 128)),
}


def quantize(weights, kind):
    """The scale as it is stored, spread over the weights, and the codes."""
    suffix, dtype, shares = SCALES[kind]
    if shares is None or shares == [1]:
        scale = np.array(np.abs(weights).max() / 448)
        scale = scale if shares is None else scale.reshape(1)
    elif shares == "row":
        scale = np.abs(weights).max(1, keepdims=True) / 448
    else:
        scale = blocks(weights, *shares)
    if dtype == "F8_E8M0":
        scale = np.exp2(np.ceil(np.log2(scale)))
    scale = scale.astype(ml_dtypes.bfloat16 if dtype == "BF16" else np.float32).astype(np.float32)
    spread = scale
    if isinstance(shares, tuple):
        spread = scale.repeat(shares[0], 0).repeat(shares[1], 1)
    return suffix, (dtype, scale), spread, fp8(weights, spread)


def model(folder, kind, config=None):
    """A LLaMA whose linear layers are fp8; what they stand for by name."""
    tensors, meant = llama(), {}
    for name in quantized_layers(tensors):
        suffix, scale, spread, codes = quantize(np.asarray(tensors[name][1]), kind)
        module = name.removesuffix(".weight")
        tensors[name] = ("F8_E4M3", codes)
        tensors[module + suffix] = scale
        tensors[module + ".input_scale"] = ("F32", np.array([0.5]))
        meant[name] = codes.astype(np.float32) * spread
    save(folder / "model.safetensors", tensors)
    write_json(folder / "config.json", config or llama_config(quantization_config=said()))
    write_json(folder / "hf_quant_config.json", {"quantization": {"quant_algo": "FP8"}})
    return tensors, meant


def rounded(meant):
    return meant.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def of_gguf(path):
    """The floats of a GGUF file by name; BF16 comes as bytes."""
    found = {}
    for tensor in gguf.GGUFReader(path).tensors:
        data = np.asarray(tensor.data)
        if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
            data = data.view(ml_dtypes.bfloat16)
        found[tensor.name] = data.astype(np.float32)
    return found


@pytest.mark.parametrize("kind", SCALES)
@pytest.mark.parametrize("form", ENGINES)
def test_kept_layers_are_decoded_and_nothing_says_fp8(program, tmp_path, kind, form):
    _, meant = model(tmp_path / "in", kind)
    out = tmp_path / "out"
    options = ["--exclude", "down_proj|o_proj", *([] if form == "gguf" else ["--symmetric"])]
    program("quantize", tmp_path / "in", "--output", out, "--format", form, *options)
    found = of_gguf(out / "model.gguf") if form == "gguf" else load(out / "model.safetensors")
    assert not [name for name in found if name.endswith(("_scale_inv", "input_scale", ".scale", "scale_weight"))]
    kept = [name for name in meant if "down_proj" in name or "o_proj" in name]
    assert len(kept) == 2
    for name in kept:
        values = found[name] if form == "gguf" else found[name][1].astype(np.float32)
        np.testing.assert_array_equal(values, rounded(meant[name]))
    if form != "gguf":
        assert not [name for name, (dtype, _) in found.items() if dtype.startswith("F8")]
        scales = [name for name in found if name.endswith("weight_scale")]
        assert len(scales) == (5 if form == "compressed-tensors" else 0)
    config = json.loads((out / "config.json").read_text())
    assert config.get("quantization_config", {}).get("quant_method") == (form if form == "compressed-tensors" else None)
    assert config["hidden_size"] == 128
    assert not (out / "hf_quant_config.json").exists()


@pytest.mark.parametrize("kind", SCALES)
def test_quantized_layers_are_those_of_the_decoded_model(program, tmp_path, kind):
    tensors, meant = model(tmp_path / "in", kind)
    floats = {name: tensors[name] for name in llama()} | {name: ("F32", values) for name, values in meant.items()}
    save(tmp_path / "floats" / "model.safetensors", floats)
    for source in ("in", "floats"):
        run = ["quantize", tmp_path / source, "--output", tmp_path / f"{source}.out", "--bits", "8"]
        program(*run, "--format", "safetensors", "--dtype", "F32")
    a, b = (load(tmp_path / f"{source}.out" / "model.safetensors") for source in ("in", "floats"))
    assert a.keys() == b.keys()
    for name in meant:
        np.testing.assert_array_equal(a[name][1], b[name][1], err_msg=name)


@pytest.mark.parametrize("said_blocks", [True, False])
def test_blocks_that_do_not_divide_a_weight_are_those_of_the_configuration(program, fails, tmp_path, said_blocks):
    weights = normal(96, 160, std=0.5)
    scale = np.abs(normal(3, 3, seed=2)) + 0.01
    codes = fp8(weights, 0.01)
    spread = scale.repeat(48, 0).repeat(64, 1)[:96, :160]
    scale = scale[:2]
    save(tmp_path / "in" / "model.safetensors", {"a.weight": ("F8_E4M3", codes), "a.weight_scale_inv": ("F32", scale)})
    if said_blocks:
        write_json(tmp_path / "in" / "config.json", {"quantization_config": said(weight_block_size=[48, 64])})
    run = ["quantize", tmp_path / "in", "--output", tmp_path / "out", "--format", "safetensors"]
    if not said_blocks:
        message = fails(*run)
        assert "'a.weight_scale_inv' is F32 of shape [2, 3]" in message
        assert message == fails(*run[:2], "--format", "safetensors", "--dry-run")
        return
    program(*run, "--exclude", "a")
    expected = rounded(codes.astype(np.float32) * spread)
    np.testing.assert_array_equal(load(tmp_path / "out" / "model.safetensors")["a.weight"][1].astype(np.float32), expected)


@pytest.mark.parametrize("form", ["parquet", *ENGINES])
@pytest.mark.parametrize("marker", [0, 2])
def test_marks_of_comfyui_do_not_stop_a_run_and_are_left_out(program, tmp_path, form, marker):
    weights = normal(256, 256)
    scale = np.float32(np.abs(weights).max() / 448)
    name = "model.diffusion_model.double_blocks.0.img_attn.proj"
    hint = np.frombuffer(json.dumps({"format": "float8_e4m3fn"}).encode(), np.uint8)
    tensors = {
        "model.diffusion_model.scaled_fp8": ("F8_E4M3", np.zeros(marker)),
        f"{name}.weight": ("F8_E4M3", fp8(weights, scale)),
        f"{name}.scale_weight": ("F32", np.array(scale)),
        f"{name}.scale_input": ("F32", np.array(1.0)),
        f"{name}.comfy_quant": ("U8", hint),
        f"{name}.bias": ("F8_E4M3", normal(256)),
    }
    save(tmp_path / "model.safetensors", tensors)
    write_json(tmp_path / "config.json", {})
    out = tmp_path / "out"
    options = ["--exclude", "proj"] if form != "parquet" else []
    program("quantize", tmp_path / "model.safetensors", "--output", out, "--format", form, *options)
    if form == "parquet":
        assert "1 of 6 tensors" in program("quantize", tmp_path / "model.safetensors", "--dry-run")
        return
    found = of_gguf(out / "model.gguf") if form == "gguf" else load(out / "model.safetensors")
    assert sorted(found) == [f"{name}.bias", f"{name}.weight"]
    values = found[f"{name}.weight"] if form == "gguf" else found[f"{name}.weight"][1].astype(np.float32)
    np.testing.assert_array_equal(values, rounded(fp8(weights, scale).astype(np.float32) * scale))


@pytest.mark.parametrize("form", ["parquet", *ENGINES])
def test_casts_without_a_scale_are_the_values_themselves_and_the_report_says_so(program, tmp_path, form):
    save(
        tmp_path / "model.safetensors",
        {
            "double_blocks.0.img_attn.proj.weight": ("F8_E4M3", normal(256, 256)),
            "double_blocks.0.img_attn.proj.bias": ("F8_E4M3", normal(256)),
            "double_blocks.0.img_attn.norm.key_norm.scale": ("F8_E5M2", normal(64)),
        },
    )
    write_json(tmp_path / "config.json", {})
    run = ["quantize", tmp_path / "model.safetensors", "--format", form]
    assert "fp8 without a scale" in program(*run, "--dry-run")
    summary = json.loads(program(*run, "--output", tmp_path / "out", "--bits", "8", "--json"))
    assert summary["quantized_tensors"] == 1 and summary["sqnr_db"] > 30
