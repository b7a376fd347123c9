"""Bits chosen under a budget, on trained models: the budget is used up, and better used than by one width for all."""

import json

import ml_dtypes  # registers bfloat16 with NumPy, for safetensors
import numpy as np
import pyarrow.parquet as pq
import pytest
from quantized_folder import read_quantized_folder
from safetensors.numpy import load_file, save_file

assert ml_dtypes.bfloat16 is not None


def squared_error(reference, folder):
    """The sum over all weights of what a folder decodes to, in f64."""
    decoded = read_quantized_folder(folder)
    return sum(np.sum((tensor.astype(np.float64) - decoded[name]) ** 2) for name, tensor in reference.items())


# From 4 bits the next width is 8: where tensors are much alike, as in the digits model, no exchange pays.
@pytest.mark.parametrize(("bits", "share"), [(3, 0.99), (4, 1.0)])
@pytest.mark.parametrize("name", ["digits_dit", "minilm"])
def test_a_budget_beats_one_width_for_all_of_the_same_size(program, request, tmp_path, name, bits, share):
    model = request.getfixturevalue(name)
    reference = {n: t for n, t in load_file(model / "model.safetensors").items() if t.dtype.kind != "i"}
    uniform = json.loads(program("quantize", model, "--output", tmp_path / "uniform", "--bits", bits, "--json"))
    size = uniform["bytes_out"]
    mixed = json.loads(program("quantize", model, "--output", tmp_path / "mixed", "--target-size", size, "--json"))

    assert 0.995 * size <= mixed["bytes_out"] <= size
    stored = pq.read_table(tmp_path / "mixed" / "report.parquet").to_pylist()
    assert mixed["bytes_out"] == sum(row["bytes_out"] for row in stored)
    # the errors are recomputed from the files, not taken from the report
    assert squared_error(reference, tmp_path / "mixed") <= share * squared_error(reference, tmp_path / "uniform")


@pytest.mark.parametrize("name", ["digits_dit", "minilm"])
def test_bits_per_weight_are_met_from_below_with_everything_counted(program, request, tmp_path, name):
    model = request.getfixturevalue(name)
    for target in (3.2, 4.5):
        out = tmp_path / str(target)
        program("quantize", model, "--output", out, "--target-bpw", target)
        rows = [row for row in pq.read_table(out / "report.parquet").to_pylist() if row["bits"] is not None]
        weights = sum(int(np.prod(row["shape"])) for row in rows)
        stored = 0
        for row in rows:
            length = row["shape"][-1]
            stored += int(np.prod(row["shape"])) // length * (-(-length * row["bits"] // 8) + 2 * -(-length // 32) + 4)
        assert 0.995 * target <= 8 * stored / weights <= target


def test_the_table_of_widths_says_what_each_would_have_been(program, digits_dit, tmp_path):
    program("quantize", digits_dit, "--output", tmp_path / "mixed", "--target-bpw", 3.2)
    widths = pq.read_table(tmp_path / "mixed" / "widths.parquet").to_pylist()
    chosen = {row["name"]: row for row in widths if row["chosen"]}
    report = {row["name"]: row for row in pq.read_table(tmp_path / "mixed" / "report.parquet").to_pylist()}
    for name, row in chosen.items():
        assert (report[name]["bits"], report[name]["bytes_out"]) == (row["bits"], row["bytes"])
        assert report[name]["sqnr_db"] == pytest.approx(row["sqnr_db"], rel=1e-12)
    program("quantize", digits_dit, "--output", tmp_path / "two", "--bits", 2)
    for row in pq.read_table(tmp_path / "two" / "report.parquet").to_pylist():
        if row["bits"] is not None:
            (width,) = (w for w in widths if w["name"] == row["name"] and w["bits"] == 2)
            assert width["sqnr_db"] == pytest.approx(row["sqnr_db"], rel=1e-12)


def files(folder):
    """The bytes of the files that hold weights."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.suffix in (".gguf", ".safetensors"))


@pytest.mark.parametrize(
    ("fmt", "option", "kinds"),
    [
        ("gguf", "--gguf-type", ("Q3_K", "Q4_K")),
        ("comfy", "--comfy-type", ("w4a8", "w6a8")),
        ("compressed-tensors", "--bits", ("2", "3")),
    ],
)
def test_a_budget_mixes_the_types_of_a_format(program, minilm, tmp_path, fmt, option, kinds):
    """Halfway between two types, the files are within the size, and lose less than the smaller type alone."""
    layers = ["--include", r"encoder\.layer\.[01]\."]
    runs = {}
    for kind in kinds:
        options = ["--output", tmp_path / kind, "--format", fmt, option, kind, *layers]
        runs[kind] = json.loads(program("quantize", minilm, *options, "--json"))
    small, large = (files(tmp_path / kind) for kind in kinds)
    size = (small + large) // 2
    options = ["--output", tmp_path / "mixed", "--format", fmt, "--target-size", size, *layers]
    mixed = json.loads(program("quantize", minilm, *options, "--json"))
    assert 0.8 * (size - small) < files(tmp_path / "mixed") - small <= size - small
    assert runs[kinds[0]]["sqnr_db"] + 0.5 < mixed["sqnr_db"]
    planned = program("quantize", minilm, *options[2:], "--dry-run")

    widths = pq.read_table(tmp_path / "mixed" / "widths.parquet").to_pylist()
    chosen = {row["name"]: row for row in widths if row["chosen"]}
    assert len({row["type"] for row in chosen.values()}) > 1
    report = {row["name"]: row for row in pq.read_table(tmp_path / "mixed" / "report.parquet").to_pylist()}
    for name, row in chosen.items():
        assert report[name]["bytes_out"] == row["bytes"]
        if np.isfinite(row["sqnr_db"]):
            assert f", {row['sqnr_db']:.2f} dB" in next(line for line in planned.splitlines() if line.startswith(f"{name} "))
            assert report[name]["sqnr_db"] == pytest.approx(row["sqnr_db"], rel=1e-9)


def test_layers_that_engines_fuse_get_one_width(program, minilm, tmp_path):
    options = ["--format", "compressed-tensors", "--target-bpw", 3.3, "--include", r"encoder\.layer\.[01]\."]
    options += ["--output", tmp_path / "packed"]
    said = program("quantize", minilm, *options)
    assert "vLLM fuses" not in said
    report = pq.read_table(tmp_path / "packed" / "report.parquet").to_pylist()
    bits = {row["name"]: row["bits"] for row in report if row["bits"] is not None}
    assert len(set(bits.values())) > 1
    queries = [name for name in bits if name.endswith("attention.self.query.weight")]
    assert len(queries) == 2
    for name in queries:
        assert len({bits[name.replace("query", layer)] for layer in ("query", "key", "value")}) == 1


@pytest.mark.parametrize("fmt", ["gguf", "comfy", "compressed-tensors"])
def test_a_least_ratio_holds_for_every_tensor_of_a_format(program, digits_dit, tmp_path, fmt):
    least = {"gguf": ["--bits", 2], "comfy": ["--comfy-type", "w4a8"], "compressed-tensors": ["--bits", 2]}[fmt]
    options = ["--format", fmt, *least, "--min-sqnr", 20, "--output", tmp_path / "out"]
    program("quantize", digits_dit, *options)
    report = pq.read_table(tmp_path / "out" / "report.parquet").to_pylist()
    quantized = [row for row in report if row["bits"] is not None]
    assert len(quantized) == 15
    assert all(row["sqnr_db"] >= 20 for row in quantized)


def test_a_type_asked_for_by_name_holds_under_a_budget(program, digits_dit, tmp_path):
    options = ["--format", "gguf", "--target-bpw", 5.5, "--gguf-type-for", "qkv=Q8_0", "--output", tmp_path / "out"]
    program("quantize", digits_dit, *options)
    report = {row["name"]: row for row in pq.read_table(tmp_path / "out" / "report.parquet").to_pylist()}
    assert {row["bits"] for name, row in report.items() if "qkv.weight" in name} == {8}
    stored = [row for row in report.values() if row["bits"] is not None]
    weights = sum(int(np.prod(row["shape"])) for row in stored)
    assert 8 * sum(row["bytes_out"] for row in stored) <= 5.5 * weights


def test_no_tensor_that_comfyui_recognizes_a_model_by_is_packed_under_a_budget(program, tmp_path):
    noise = np.random.default_rng(5)
    names = ["img_in", "double_blocks.0.img_attn.qkv", "double_blocks.0.img_attn.proj", "single_blocks.0.linear1"]
    tensors = {f"{name}.weight": noise.standard_normal((64, 64)).astype(np.float32) for name in names}
    save_file(tensors, tmp_path / "flux.safetensors")
    options = ["--format", "comfy", "--target-bpw", 7, "--include", "weight", "--output", tmp_path / "out"]
    program("quantize", tmp_path / "flux.safetensors", *options)
    report = {row["name"]: row for row in pq.read_table(tmp_path / "out" / "report.parquet").to_pylist()}
    assert report["img_in.weight"]["bits"] in (8, None)
    assert min(row["bits"] for row in report.values() if row["bits"] is not None) < 8


def test_a_budget_names_what_it_cannot_be_used_with(fails, digits_dit):
    for options, problem in [
        (("--format", "gguf", "--gguf-type", "Q4_K"), "cannot be used with --gguf-type"),
        (("--format", "comfy", "--comfy-type", "w4a8"), "cannot be used with --comfy-type"),
        (("--format", "safetensors"), "--target-size needs --format parquet, arrow, compressed-tensors, gguf, comfy or mlx"),
    ]:
        assert problem in fails("quantize", digits_dit, "--dry-run", "--target-size", "1MB", *options, expect=2)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["--format", "gguf", "--gguf-type", "Q4_0"], "Q4_0"),
        (["--format", "comfy", "--comfy-type", "fp8"], "COMFY_FP8"),
        (["--format", "mlx", "--mlx-type", "mxfp4"], "MLX_MXFP4"),
    ],
)
def test_a_least_ratio_that_is_reached_leaves_the_type_that_was_asked_for(program, minilm, tmp_path, options, kind):
    layers = ["--include", r"encoder\.layer\.0\.attention"]
    program("quantize", minilm, "--output", tmp_path / "out", *options, *layers, "--min-sqnr", 10)
    widths = pq.read_table(tmp_path / "out" / "widths.parquet").to_pylist()
    chosen = [row["type"] for row in widths if row["chosen"]]
    assert len(chosen) == 4
    assert all(kind in name for name in chosen), chosen


def test_experts_that_mlx_lm_stacks_get_one_type(program, tmp_path):
    noise = np.random.default_rng(8)
    model = tmp_path / "moe"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "mixtral", "tie_word_embeddings": false}')
    layer = "model.layers.0.block_sparse_moe.experts"
    tensors = {f"{layer}.{n}.{w}.weight": 4.0**n * noise.standard_normal((64, 64)) for n in range(3) for w in ("w1", "w2")}
    tensors["model.layers.0.self_attn.q_proj.weight"] = noise.standard_normal((64, 64))
    save_file({name: x.astype(np.float32) for name, x in tensors.items()}, model / "model.safetensors")

    def bits(out):
        report = pq.read_table(out / "report.parquet").to_pylist()
        return {row["name"]: row["bits"] for row in report}

    program("quantize", model, "--output", tmp_path / "mixed", "--format", "mlx", "--target-bpw", 6.2)
    mixed = bits(tmp_path / "mixed")
    assert len(set(mixed.values())) > 1
    for w in ("w1", "w2"):
        assert len({mixed[f"{layer}.{n}.{w}.weight"] for n in range(3)}) == 1
    # Where a rule would make them differ they stay in floats, and that is said.
    rule = ["--mlx-type-for", r"experts\.1\.w1=int8"]
    said = program("quantize", model, "--output", tmp_path / "ruled", "--format", "mlx", *rule, "--report")
    assert "mlx-lm stacks the experts of a layer" in said
    ruled = bits(tmp_path / "ruled")
    assert {ruled[f"{layer}.{n}.w1.weight"] for n in range(3)} == {None}
    assert {ruled[f"{layer}.{n}.w2.weight"] for n in range(3)} == {4}


def test_a_budget_that_tensors_chosen_by_name_pass_ends_in_one_line(fails, digits_dit):
    for options in (["--bits-for", ".=4", "--target-bpw", 2], ["--exclude", ".", "--target-size", "1KB"]):
        error = fails("quantize", digits_dit, "--dry-run", "--method", "entropy", *options)
        assert error.splitlines()[-1].startswith("error: --target") and "too small" in error
