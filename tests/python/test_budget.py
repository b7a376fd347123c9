"""Bits chosen under a budget, on trained models: the budget is used up, and better used than by one width for all."""

import json

import ml_dtypes  # registers bfloat16 with NumPy, for safetensors
import numpy as np
import pyarrow.parquet as pq
import pytest
from quantized_folder import read_quantized_folder
from safetensors.numpy import load_file

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
