"""The main job, measured from outside: files decoded by the NumPy oracle, figures recomputed in f64."""

import json

import ml_dtypes  # registers bfloat16 with NumPy, for safetensors
import numpy as np
import pyarrow.parquet as pq
import pytest
from quantized_folder import read_quantized_folder
from safetensors.numpy import load_file

assert ml_dtypes.bfloat16 is not None

# How near sums come that are partly made in f32: `error_stats`.
SUMS = 1e-6


def quantize(program, model, output, bits):
    summary = json.loads(program("quantize", model, "--output", output, "--bits", bits, "--json"))
    report = pq.read_table(output / "report.parquet").to_pylist()
    return summary, {row["name"]: row for row in report}


def sqnr(reference, decoded):
    reference = reference.astype(np.float64)
    return 10 * np.log10(np.sum(reference**2) / np.sum((reference - decoded) ** 2))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_report_says_what_numpy_computes_from_the_files(program, compare, digits_dit, tmp_path, bits):
    _, report = quantize(program, digits_dit, tmp_path / "out", bits)
    reference = load_file(digits_dit / "model.safetensors")
    decoded = read_quantized_folder(tmp_path / "out")
    compared = {row["name"]: row for row in compare(digits_dit, tmp_path / "out")["tensors"]}

    assert report.keys() == reference.keys() == decoded.keys()
    quantized = [name for name, row in report.items() if row["bits"] is not None]
    assert len(quantized) > 5
    for name, row in report.items():
        original = reference[name]
        assert row["shape"] == list(original.shape)
        if name not in quantized:
            assert row["note"], name
            assert decoded[name].tobytes() == original.tobytes(), name
            assert row["bytes_out"] == row["bytes_in"] == original.nbytes
            continue
        exact, ours = original.astype(np.float64), decoded[name].astype(np.float64)
        assert row["bits"] == bits
        assert row["sqnr_db"] == pytest.approx(sqnr(exact, ours), rel=SUMS)
        assert row["mse"] == pytest.approx(np.mean((exact - ours) ** 2), rel=SUMS)
        assert row["max_abs_error"] == pytest.approx(np.max(np.abs(exact - ours)), rel=SUMS)
        cosine = np.sum(exact * ours) / np.sqrt(np.sum(exact**2) * np.sum(ours**2))
        assert row["cosine"] == pytest.approx(cosine, rel=SUMS)
        rows = original.size // original.shape[-1] if original.ndim < 4 else original.shape[0]
        length = original.size // rows
        stored = rows * (-(-length * bits // 8) + 2 * -(-length // row["group_size"]) + 4)
        assert row["bytes_out"] == stored
        assert row["bits_per_weight"] == pytest.approx(8 * stored / original.size)
        for figure in ("sqnr_db", "mse", "max_abs_error", "cosine"):
            assert compared[name][figure] == pytest.approx(row[figure], rel=1e-12), (name, figure)


@pytest.mark.parametrize(("bits", "at_least", "bits_per_weight"), [(8, 44.0, 8.5), (4, 20.5, 4.5)])
def test_minilm_keeps_its_weights(program, minilm, tmp_path, bits, at_least, bits_per_weight):
    summary, report = quantize(program, minilm, tmp_path / "out", bits)
    reference = load_file(minilm / "model.safetensors")
    decoded = read_quantized_folder(tmp_path / "out")
    names = [name for name, row in report.items() if row["bits"] is not None]
    signal = sum(np.sum(reference[name].astype(np.float64) ** 2) for name in names)
    noise = sum(np.sum((reference[name].astype(np.float64) - decoded[name]) ** 2) for name in names)
    assert 10 * np.log10(signal / noise) >= at_least
    assert summary["sqnr_db"] == pytest.approx(10 * np.log10(signal / noise), rel=SUMS)
    weights = sum(reference[name].size for name in names)
    rows = sum(reference[name].size // reference[name].shape[-1] for name in names)
    assert summary["bits_per_weight"] == pytest.approx(bits_per_weight + 32 * rows / weights)
