"""What GGUF files of diffusion models hold beside quantized layers, as their loaders read it."""

import gguf
import ml_dtypes
import numpy as np
import pytest
from checkpoints import normal, save

TYPES = gguf.GGMLQuantizationType


def written(program, tmp_path, tensors, *options):
    save(tmp_path / "model.safetensors", tensors)
    program("quantize", tmp_path / "model.safetensors", "--output", tmp_path / "out", "--format", "gguf", *options)
    return {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "out" / "model.gguf").tensors}


def bf16(array):
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
def test_a_patch_embedding_of_five_dimensions_keeps_its_shape(program, tmp_path, dtype):
    patch = normal(64, 16, 1, 2, 2)
    layer = {"blocks.0.self_attn.q.weight": (dtype, normal(256, 256))}
    found = written(program, tmp_path, {"patch_embedding.weight": (dtype, patch)} | layer)
    tensor = found["patch_embedding.weight"]
    assert [int(size) for size in reversed(tensor.shape)] == [64, 16, 1, 2, 2]
    expected = patch.astype({"BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32}[dtype]).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(tensor.data, np.float32).reshape(patch.shape), expected)
    # Our reader takes it back.
    program("quantize", tmp_path / "out", "--output", tmp_path / "back", "--format", "safetensors", "--exclude", ".")


@pytest.mark.parametrize("options", [[], ["--gguf-type", "BF16"]])
def test_what_is_bf16_and_no_linear_weight_becomes_f32(program, tmp_path, options):
    others = {
        "conv_in.weight": normal(32, 4, 3, 3),
        "down_blocks.0.resnets.0.conv1.weight": normal(32, 32, 3, 3),
        "pos_embed": normal(1, 64, 32),
        "scale_shift_table": normal(2, 32),
        "y_embedder.embedding_table.weight": normal(11, 32),
        "norm.bias": normal(32),
    }
    layers = {"blocks.0.attn.to_q.weight": normal(64, 64), "x_embedder.weight": normal(32, 64)}
    tensors = {name: ("BF16", array) for name, array in (others | layers).items()}
    found = written(program, tmp_path, tensors, *options)
    for name, array in others.items():
        assert found[name].tensor_type == TYPES.F32, name
        np.testing.assert_array_equal(np.asarray(found[name].data).reshape(array.shape), bf16(array))
    assert found["x_embedder.weight"].tensor_type == TYPES.BF16
    assert (found["blocks.0.attn.to_q.weight"].tensor_type == TYPES.BF16) == bool(options)


@pytest.mark.parametrize("dtype", ["U8", "U32", "BOOL", "F8_E8M0"])
def test_what_the_container_lacks_is_left_out_and_named(program, tmp_path, dtype):
    tensors = {"blocks.0.weight": ("F32", normal(64, 64)), "odd": (dtype, np.ones((4, 8)))}
    found = written(program, tmp_path, tensors)
    assert sorted(found) == ["blocks.0.weight"]
    for command in (["--dry-run"], ["--output", tmp_path / "again", "--report"]):
        said = program("quantize", tmp_path / "model.safetensors", "--format", "gguf", *command)
        assert f"left out: GGUF has no type for {dtype}" in said
