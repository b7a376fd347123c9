"""ComfyUI's files: comfy-kitchen's own encoder gives the same bytes, and its decoder the same weights as ours."""

import json

import comfy_kitchen
import numpy as np
import pytest
import torch
from comfy_kitchen import float_utils
from comfy_kitchen.backends.eager import convrot_w4a4, quantization, w4a8_int8
from safetensors.torch import load_file, save_file

NAME = "double_blocks.0.img_mlp.0"


def weights(rows, columns, seed):
    """Integers times a power of two, about normal: their rotations are exact in any order of the sums."""
    random = np.random.default_rng(seed)
    return torch.from_numpy((np.clip(random.normal(size=(rows, columns)), -4, 4) * 4096).round().astype(np.float32) / 2**17)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("comfy") / "model.safetensors"
    save_file({f"{NAME}.weight": weights(160, 512, 1), f"{NAME}.bias": torch.zeros(160)}, path)
    return path


def encoded(kind, w):
    """The tensors of a layer, by what follows its name, as comfy-kitchen makes them."""
    with comfy_kitchen.use_backend("eager"):
        if kind == "int8":
            codes, scale = quantization.quantize_int8_convrot_weight(w, 256)
            return {"weight": codes, "weight_scale": scale.reshape(-1, 1)}
        if kind == "int8-rows":
            codes, scale = comfy_kitchen.quantize_int8_rowwise(w)
            return {"weight": codes, "weight_scale": scale.reshape(-1, 1)}
        if kind in ("w4a8", "w6a8"):
            bits = 4 if kind == "w4a8" else 6
            made = w4a8_int8.quantize_w4a8_int8_weight(w, group_size=16, convrot_groupsize=256, bits=bits)
            names = ["weight", "weight_s_rel", "weight_s_channel", "weight_correction", "weight_codebook"]
            return {name: tensor for name, tensor in zip(names, made, strict=True) if tensor is not None}
        if kind == "w4a4":
            codes, scale = convrot_w4a4.quantize_convrot_w4a4_weight(w, 256)
            return {"weight": codes, "weight_scale": scale}
        if kind == "fp8":
            scale = w.abs().amax() / 448
            return {"weight": comfy_kitchen.quantize_per_tensor_fp8(w, scale, torch.float8_e4m3fn), "weight_scale": scale}
        if kind == "nvfp4":
            scale = w.abs().amax() / 2688
            codes, scales = comfy_kitchen.quantize_nvfp4(w, scale)
            return {"weight": codes, "weight_scale": scales, "weight_scale_2": scale}
        codes, scales = comfy_kitchen.quantize_mxfp8(w)
        return {"weight": codes, "weight_scale": scales.view(torch.uint8)}


def decoded(kind, layer):
    """The weights of a layer, as comfy-kitchen decodes its tensors."""
    with comfy_kitchen.use_backend("eager"):
        codes, scale = layer["weight"], layer.get("weight_scale")
        if kind == "int8":
            return quantization.dequantize_int8_convrot_weight(codes, scale, 256)
        if kind == "int8-rows":
            return codes.float() * scale
        if kind in ("w4a8", "w6a8"):
            return w4a8_int8.dequantize_w4a8_int8_weight(
                codes, layer["weight_s_rel"], layer["weight_s_channel"], codebook=layer.get("weight_codebook"),
                group_size=16, convrot_groupsize=256, output_dtype=torch.float32)  # fmt: skip
        if kind == "w4a4":
            return convrot_w4a4.dequantize_convrot_w4a4_weight(codes, scale, 256, output_dtype=torch.float32)
        if kind == "fp8":
            return comfy_kitchen.dequantize_per_tensor_fp8(codes, scale, torch.float32)
        if kind == "nvfp4":
            return comfy_kitchen.dequantize_nvfp4(codes, layer["weight_scale_2"], scale, torch.float32)
        return comfy_kitchen.dequantize_mxfp8(codes, scale.view(torch.float8_e8m0fnu), torch.float32)


def as_bytes(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8)


KINDS = ["int8", "int8-rows", "w4a8", "w6a8", "w4a4", "fp8", "nvfp4", "mxfp8"]


@pytest.mark.parametrize("method", ["minmax", "search"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_what_comfy_kitchen_makes_and_decodes(program, source, tmp_path, kind, method):
    program("quantize", source, "--output", tmp_path / "a", "--format", "comfy", "--comfy-type", kind, "--method", method)
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    marker = json.loads(bytes(tensors[f"{NAME}.comfy_quant"].tolist()))
    assert marker["format"]
    layer = {name.removeprefix(f"{NAME}."): tensor for name, tensor in tensors.items() if name.startswith(NAME)}
    original = load_file(source)[f"{NAME}.weight"]
    if method == "minmax":
        for name, tensor in encoded(kind, original).items():
            assert layer[name].dtype == tensor.dtype and layer[name].shape == tensor.shape, name
            assert torch.equal(as_bytes(layer[name]), as_bytes(tensor)), name
    program("quantize", tmp_path / "a", "--output", tmp_path / "b", "--format", "safetensors", "--dtype", "F32", "--exclude", ".")
    ours, theirs = load_file(tmp_path / "b" / "model.safetensors")[f"{NAME}.weight"], decoded(kind, layer)
    if kind in ("int8-rows", "fp8", "nvfp4", "mxfp8"):
        assert torch.equal(as_bytes(ours), as_bytes(theirs))
    else:
        # A rotation adds in another order: what differs is the last bits of f32.
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("kind", "more"), [("w4a8", 0.18), ("nvfp4", 1.2)])
def test_a_search_loses_less_than_comfy_kitchen(program, source, tmp_path, kind, more):
    def db(back):
        original = load_file(source)[f"{NAME}.weight"]
        return 10 * torch.log10((original**2).sum() / ((original - back) ** 2).sum())

    program("quantize", source, "--output", tmp_path / "a", "--format", "comfy", "--comfy-type", kind)
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    layer = {name.removeprefix(f"{NAME}."): tensor for name, tensor in tensors.items() if name.startswith(NAME)}
    theirs = encoded(kind, load_file(source)[f"{NAME}.weight"])
    assert db(decoded(kind, layer)) > db(decoded(kind, theirs)) + more


def test_scales_of_blocks_lie_as_comfy_kitchen_reads_them(program, source, tmp_path):
    program("quantize", source, "--output", tmp_path / "a", "--format", "comfy", "--comfy-type", "mxfp8")
    scales = load_file(tmp_path / "a" / "model.safetensors")[f"{NAME}.weight_scale"]
    assert scales.shape == (256, 16)
    assert (float_utils.from_blocked(scales, 160, 16) > 0).all() and (scales == 0).sum() == 96 * 16
