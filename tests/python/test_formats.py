"""Formats for other programs, read by NumPy and by the safetensors package."""

import json
import shutil

import ml_dtypes  # registers bfloat16 with NumPy, for safetensors
import numpy as np
import pytest
from packed_folder import named, read_packed_folder, unpack
from quantized_folder import read_quantized_folder
from safetensors.numpy import load_file, save_file

assert ml_dtypes.bfloat16 is not None

# How near sums come that are partly made in f32: `error_stats`.
SUMS = 1e-6


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def sqnr(reference, decoded):
    reference, decoded = reference.astype(np.float64), decoded.astype(np.float64)
    return 10 * np.log10(np.sum(reference**2) / np.sum((reference - decoded) ** 2))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_safetensors_hold_what_the_parts_decode_to(program, digits_dit, tmp_path, bits):
    program("quantize", digits_dit, "--output", tmp_path / "parts", "--bits", bits)
    program("quantize", digits_dit, "--output", tmp_path / "floats", "--bits", bits, "--format", "safetensors")
    parts, floats = read_quantized_folder(tmp_path / "parts"), load_file(tmp_path / "floats" / "model.safetensors")
    source = load_file(digits_dit / "model.safetensors")
    assert source.keys() == parts.keys() == floats.keys()
    for name, tensor in floats.items():
        assert same(tensor, parts[name].astype(source[name].dtype)), name


@pytest.fixture
def model(tmp_path):
    """Two linear modules and what stands beside them, in a dtype."""

    def make(dtype):
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        random = np.random.default_rng(7)
        tensors = {
            "block.a.weight": random.standard_t(4, (70, 96)) * 0.02,
            "block.b.weight": random.standard_normal((33, 192)) * 0.05,
            "block.odd.weight": random.standard_normal((8, 100)) * 0.05,
            "block.a.bias": random.standard_normal(70),
            "norm.weight": random.standard_normal(96),
        }
        tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
        tensors["steps"] = np.arange(5)
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"architectures": ["Two"], "hidden": 96}))
        return folder, tensors

    return make


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("group_size", ["32", "channel"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_packed_modules_decode_as_compare_and_the_report_say(
    program, compare, model, tmp_path, bits, symmetric, group_size, dtype
):
    folder, source = model(dtype)
    out, floats = tmp_path / "out", tmp_path / "floats"
    options = ["--bits", bits, "--group-size", group_size, *(["--symmetric"] if symmetric else [])]
    summary = json.loads(program("quantize", folder, "--output", out, "--format", "compressed-tensors", "--json", *options))
    assert summary["checked"] is True
    decoded, modules = read_packed_folder(out)
    # Groups of 32 do not divide rows of 100, so that module is carried over; a whole row is always a group.
    odd = [] if group_size == "32" else ["block.odd"]
    assert sorted(modules) == ["block.a", "block.b", *odd]
    assert decoded.keys() == source.keys()
    figures = {row["name"]: row for row in compare(folder, out)["tensors"]}
    for name, tensor in source.items():
        if name.removesuffix(".weight") in modules:
            assert figures[name]["sqnr_db"] == pytest.approx(sqnr(tensor, decoded[name]), rel=SUMS)
        else:
            assert same(decoded[name], tensor), name
            assert figures[name]["difference"] == "identical"
    # Our reader gives the same numbers, bit for bit, as floats.
    everything = ["--exclude", ".", "--format", "safetensors"]
    program("quantize", out, "--output", floats, *everything)
    for name, tensor in load_file(floats / "model.safetensors").items():
        assert same(tensor, decoded[name]), name
    config = json.loads((out / "config.json").read_text())
    assert config["hidden"] == 96
    assert named("block.odd", config["quantization_config"]["ignore"]) == (group_size == "32")


@pytest.mark.parametrize(("bits", "at_least"), [(8, 43.0), (4, 18.5), (3, 12.5), (2, 6.5)])
def test_the_search_is_better_than_the_range_on_the_grid_of_the_format(program, minilm, tmp_path, bits, at_least):
    def run(method):
        arguments = ["--output", tmp_path / method, "--bits", bits, "--method", method, "--format", "compressed-tensors"]
        return json.loads(program("quantize", minilm, *arguments, "--json"))["sqnr_db"]

    search, minmax = run("search"), run("minmax")
    assert search > at_least
    # At 8 bits there is nothing to search for.
    assert search == minmax if bits == 8 else search > minmax + 0.3


def test_shards_have_an_index_and_widths_by_name_have_groups_of_their_own(program, model, tmp_path):
    folder, source = model(np.float32)
    out = tmp_path / "out"
    program(
        "quantize", folder, "--output", out, "--format", "compressed-tensors",
        "--bits-for", "a.weight=8", "--shard-size", "10kB",
    )
    decoded, modules = read_packed_folder(out)
    assert sorted(modules) == ["block.a", "block.b"] and decoded.keys() == source.keys()
    groups = json.loads((out / "config.json").read_text())["quantization_config"]["config_groups"]
    # The widest first: tests/engines/test_language_models.py says why.
    assert [(g["targets"], g["weights"]["num_bits"]) for g in groups.values()] == [
        ([r"re:(.*\.)?block\.a$"], 8),
        ([r"re:(.*\.)?block\.b$"], 4),
    ]
    weight_map = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(weight_map.values())) > 1
    for name, file in weight_map.items():
        assert name in load_file(out / file)


def test_golden_words():
    def code(words, bits, count):
        return unpack(np.array([words], np.uint32), bits, count)[0].tolist()

    assert code([0xFEA98710], 4, 8) == [-8, -7, -1, 0, 1, 2, 6, 7]
    assert code([0x00098710], 4, 5) == [-8, -7, -1, 0, 1]
    assert code([0xFF807F00], 8, 4) == [-128, -1, 0, 127]
    assert code([0xE4E4E4E4], 2, 16) == [-2, -1, 0, 1] * 4
    assert code([0x88FAC688, 0x0000FAC6], 3, 16) == list(range(-4, 4)) * 2
