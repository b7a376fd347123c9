"""GGUF files against gguf, the package of llama.cpp: an independent reader, decoder and encoder in NumPy."""

import json

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

T = gguf.GGMLQuantizationType

LEGACY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
SEARCHED = ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def weights(rows, length, seed):
    """Heavy-tailed rows, with zeros, constants, one sign and a wide range of scales among them."""
    x = np.random.default_rng(seed).standard_t(3, (rows, length)).astype(np.float32) * np.float32(0.02)
    x[0] = 0
    x[1] = 0.37
    x[2] = np.abs(x[2])
    x[3] *= 1e4
    x[4] *= 1e-5
    return x


def export(program, model, out, *options):
    program("quantize", model, "--output", out, "--format", "gguf", *options)
    return gguf.GGUFReader(out / "model.gguf")


def sqnr(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum())


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = {
        "blocks.0.attn.weight": weights(64, 512, 1),
        "blocks.0.mlp.weight": weights(48, 256, 2),
        "blocks.0.odd.weight": weights(16, 96, 3),
        "blocks.0.rest.weight": weights(16, 50, 4),
        "blocks.0.norm.weight": weights(8, 32, 5)[5],
        "conv.weight": weights(8, 36, 6).reshape(8, 4, 3, 3).astype(np.float16),
        "ids": np.arange(7),
    }
    save_file(tensors, path)
    return path, tensors


@pytest.mark.parametrize("kind", LEGACY)
def test_blocks_of_32_are_those_of_the_reference(program, model, tmp_path, kind):
    path, tensors = model
    reader = export(program, path, tmp_path / "out", "--gguf-type", kind)
    found = {tensor.name: tensor for tensor in reader.tensors}
    for name in ["blocks.0.attn.weight", "blocks.0.mlp.weight", "blocks.0.odd.weight"]:
        assert found[name].tensor_type == T[kind]
        theirs = gguf.quants.quantize(tensors[name], T[kind])
        size = gguf.constants.GGML_QUANT_SIZES[T[kind]][1]
        ours_blocks, their_blocks = found[name].data.reshape(-1, size), theirs.reshape(-1, size)
        # A scale of fewer than 7 bits: the reference loses decibels there, and writes zeros at last.
        coarse = np.abs(their_blocks[:, :2].copy().view(np.float16)[:, 0].astype(np.float32)) < 2.0**-17
        assert (ours_blocks == their_blocks)[~coarse].all() and (~coarse).sum() > 0, name
        original = tensors[name].astype(np.float64).reshape(-1, 32)
        ours, reference = (gguf.quants.dequantize(data, T[kind]).reshape(-1, 32) for data in (found[name].data, theirs))
        lost = [((decoded - original) ** 2).sum(axis=1)[coarse].sum() for decoded in (ours, reference)]
        assert lost[0] <= lost[1], (name, lost)


@pytest.mark.parametrize("kind", LEGACY + SEARCHED)
def test_the_reference_reads_the_file_and_decodes_what_we_decode(program, model, tmp_path, kind):
    path, tensors = model
    reader = export(program, path, tmp_path / "out", "--gguf-type", kind)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found.keys() == tensors.keys()
    ours = tmp_path / "ours"
    program("quantize", tmp_path / "out", "--output", ours, "--format", "safetensors", "--exclude", ".")
    back = load_file(ours / "model.safetensors")
    for name, tensor in found.items():
        assert tuple(int(n) for n in reversed(tensor.shape)) == tensors[name].shape, name
        if tensor.tensor_type in gguf.quants._type_traits:
            theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(tensors[name].shape)
            assert (theirs.view(np.uint32) == back[name].view(np.uint32)).all(), name
    assert (found["ids"].data == tensors["ids"]).all()
    assert (found["blocks.0.norm.weight"].data == tensors["blocks.0.norm.weight"]).all()
    assert (found["conv.weight"].data.reshape(8, 4, 3, 3) == tensors["conv.weight"]).all()


def test_the_file_says_what_it_holds(program, model, tmp_path):
    path, _ = model
    options = ["--bits", "4", "--gguf-type-for", "mlp=Q6_K", "--gguf-architecture", "flux"]
    reader = export(program, path, tmp_path / "out", *options)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blocks.0.attn.weight"] == "Q4_K"
    assert kinds["blocks.0.mlp.weight"] == "Q6_K"
    assert kinds["blocks.0.odd.weight"] == "Q5_0"
    assert kinds["blocks.0.rest.weight"] == "F32"
    assert reader.get_field("general.architecture").contents() == "flux"
    assert reader.get_field("general.quantization_version").contents() == 2
    assert reader.get_field("general.file_type").contents() == gguf.LlamaFileType.MOSTLY_Q4_K_S


def test_the_searched_blocks_beat_round_to_nearest(program, tmp_path):
    x = np.random.default_rng(7).normal(0, 0.02, (64, 1024)).astype(np.float32)
    save_file({"blocks.0.w.weight": x}, tmp_path / "model.safetensors")
    for kind, least in [("Q2_K", 11.4), ("Q3_K", 16.6), ("Q4_K", 22.8), ("Q5_K", 28.9), ("Q6_K", 35.0)]:
        reader = export(program, tmp_path / "model.safetensors", tmp_path / kind, "--gguf-type", kind)
        [tensor] = reader.tensors
        assert sqnr(x, gguf.quants.dequantize(tensor.data, tensor.tensor_type)) > least, kind


def test_we_read_what_the_reference_writes(program, compare, tmp_path):
    x = weights(32, 512, 9)
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "flux")
    writer.add_string("general.name", "été")
    writer.add_array("tokens", ["a", "", "é"])
    for kind in LEGACY:
        writer.add_tensor(f"{kind}.weight", gguf.quants.quantize(x, T[kind]), raw_dtype=T[kind])
    writer.add_tensor("half", x.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    lines = [json.loads(line) for line in program("inspect", "--json", tmp_path / "a.gguf").splitlines()]
    assert [(line["name"], line["dtype"], line["shape"]) for line in lines] == [
        *((f"{kind}.weight", kind, [32, 512]) for kind in LEGACY),
        ("half", "F16", [32, 512]),
    ]
    save_file({f"{kind}.weight": x for kind in LEGACY} | {"half": x}, tmp_path / "full.safetensors")
    figures = {row["name"]: row for row in compare(tmp_path / "full.safetensors", tmp_path / "a.gguf")["tensors"]}
    for kind in LEGACY:
        want = sqnr(x, gguf.quants.dequantize(gguf.quants.quantize(x, T[kind]), T[kind]))
        assert abs(figures[f"{kind}.weight"]["sqnr_db"] - want) < 1e-6, kind


def test_a_file_that_is_cut_off_is_an_error_that_names_the_tensor(program, fails, model, tmp_path):
    path, _ = model
    export(program, path, tmp_path / "out", "--gguf-type", "Q4_K")
    whole = (tmp_path / "out" / "model.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) - 4000])
    for command in [["inspect", tmp_path / "cut.gguf"], ["compare", path, tmp_path / "cut.gguf"]]:
        error = fails(*command)
        assert error.startswith("error: ") and "tensor '" in error and "is cut off" in error
