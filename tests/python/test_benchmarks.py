"""The benchmark programs: the comparison of results, the baseline, and one case of each engine."""

import json
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

BENCHES = Path(__file__).resolve().parents[2] / "benches"
PROGRAMS = sorted(path.name for path in BENCHES.glob("*.py"))


def run(program, *arguments):
    return subprocess.run([sys.executable, str(BENCHES / program), *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_says_what_it_does(program):
    done = run(program, "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def write_json(path, factors):
    cases = [{"case": f"case {i}", "seconds": (i + 1) * factor, "runs": [0.0] * 3, "peak_memory": 1e8} for i, factor in enumerate(factors)]
    path.write_text(json.dumps({"results": cases}))
    return path


def write_criterion(folder, factors):
    for i, factor in enumerate(factors):
        place = folder / "group" / f"case_{i}" / "new"
        place.mkdir(parents=True)
        (place / "estimates.json").write_text(json.dumps({"median": {"point_estimate": 100.0 * (i + 1) * factor}}))
    return folder


@pytest.mark.parametrize("write", [write_json, write_criterion])
def test_a_regression_of_20_percent_is_found_and_noise_is_not(tmp_path, write):
    noise = 1 + np.random.default_rng(7).uniform(-0.08, 0.08, (2, 6))
    before = write(tmp_path / "before", noise[0] / noise[0].mean())
    quiet = write(tmp_path / "quiet", noise[0] / noise[0].mean() * (1 + 0.3 * (noise[1] - 1)))
    slow = [1.0] * 6
    slow[3] = 1.2
    base, slower = write(tmp_path / "base", [1.0] * 6), write(tmp_path / "slower", slow)
    assert run("compare_results.py", before, quiet).returncode == 0
    done = run("compare_results.py", base, slower)
    assert done.returncode == 1
    assert sum("REGRESSION" in line for line in done.stdout.splitlines()) == 1
    assert "+20.0%" in done.stdout
    assert run("compare_results.py", base, slower, "--threshold", "25").returncode == 0
    assert run("compare_results.py", slower, base).returncode == 0


def test_a_case_that_is_gone_is_a_failure_and_nan_is_no_result(tmp_path):
    both, one = write_json(tmp_path / "both", [1.0, 1.0]), write_json(tmp_path / "one", [1.0])
    done = run("compare_results.py", both, one)
    assert (done.returncode, "only before: case 1 (s)" in done.stdout) == (1, True)
    assert run("compare_results.py", one, both).returncode == 0
    done = run("compare_results.py", one, write_json(tmp_path / "nan", [float("nan")]))
    assert done.returncode == 1
    assert "cannot be compared" in done.stderr


def test_results_that_cannot_be_compared_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no JSON")
    good = write_json(tmp_path / "good", [1.0])
    for wrong in ("empty", "text", "missing"):
        done = run("compare_results.py", good, tmp_path / wrong)
        assert done.returncode == 1
        assert wrong in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_baseline_does_the_same_work(tmp_path, bits):
    random = np.random.default_rng(3)
    weights = random.normal(0, 0.02, (300, 512)) * random.lognormal(0, 0.3, 512)
    tensors = {
        "layers.0.mlp.weight": weights.astype(ml_dtypes.bfloat16),
        "model.norm.weight": np.ones(512, ml_dtypes.bfloat16),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    case = {"path": str(tmp_path), "bits": bits, "method": "minmax", "threads": 2, "batch": False}
    results = {}
    for engine in ("arrow-quant", "numpy"):
        settings = json.dumps({**case, "engine": engine, "output": str(tmp_path / engine)})
        done = subprocess.run([sys.executable, str(BENCHES / "suite" / "child.py"), settings], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        results[engine] = json.loads(done.stdout)
    ours, theirs = results["arrow-quant"], results["numpy"]
    for figure in ("bits_per_weight", "bytes_in", "bytes_out"):
        assert ours[figure] == theirs[figure]
    assert theirs["sqnr_db"] == pytest.approx(ours["sqnr_db"], abs=0.5)
    assert ours["peak_memory"] > ours["memory_before"] > 0
