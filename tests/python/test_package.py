"""The package as a whole: import, version, types, documentation, the stock `datafusion` wheel."""

import doctest
import subprocess
import sys
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest

import arrow_quant
import arrow_quant.functions
import arrow_quant.session

ROOT = Path(__file__).resolve().parents[2]


def test_the_version_is_that_of_the_crate():
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert arrow_quant.__version__ == manifest["workspace"]["package"]["version"]


IMPORTED = """
import sys
before = set(sys.modules)
import arrow_quant
arrow_quant.as_array
heavy = {"pyarrow", "numpy", "pandas", "torch", "tqdm", "matplotlib", "datafusion", "asyncio"}
print(sorted(heavy & set(sys.modules)))
"""


def test_importing_brings_nothing_else_with_it():
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("module", [arrow_quant, arrow_quant.functions, arrow_quant.session])
def test_documentation_runs(module):
    results = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.attempted > 3
    assert results.failed == 0


def test_types_hold():
    package = [ROOT / "python" / "arrow_quant", ROOT / "examples" / "quantize_arrays.py"]
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", *package]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def examples():
    from arrow_quant import _lib

    return [function for function in _lib.functions() if function["example"]]


@pytest.mark.parametrize("function", examples(), ids=lambda function: function["name"])
def test_the_datafusion_wheel_gives_what_our_session_gives(function):
    from datafusion import SessionContext

    from arrow_quant.datafusion import register

    context = SessionContext()
    register(context)
    # Arguments are positional there.
    query = function["example"]
    for argument in function["arguments"]:
        query = query.replace(f"{argument['name']} => ", "")
    theirs = pa.Table.from_batches(context.sql(query).collect())
    ours = arrow_quant.Session().sql(query).to_pyarrow()
    assert theirs.column_names == ours.column_names
    assert theirs.to_pylist() == ours.to_pylist()


def test_the_datafusion_wheel_says_what_is_wrong():
    from datafusion import SessionContext

    from arrow_quant.datafusion import register

    context = SessionContext()
    register(context)
    for query, message in [
        ("SELECT quantize([1.0], 5)", "bits must be 2, 3, 4 or 8, not 5"),
        ("SELECT quantize(['a'], 4)", "weights must be a list of numbers"),
        ("SELECT quantize([1.0, 'NaN'::double], 4)", "element 1 is NaN"),
    ]:
        with pytest.raises(Exception, match=message):
            context.sql(query).collect()


def test_the_example_runs():
    done = subprocess.run([sys.executable, ROOT / "examples" / "quantize_arrays.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["bits", "2", "3", "4", "8"]
    ratios = [float(line.split()[2]) for line in lines[1:]]
    assert ratios == sorted(ratios)
    assert ratios[0] > 8


def test_another_version_of_the_datafusion_wheel_is_refused(monkeypatch):
    from datafusion import SessionContext

    from arrow_quant.datafusion import register

    monkeypatch.setattr("importlib.metadata.version", lambda _: "50.1.0")
    with pytest.raises(ImportError, match="datafusion 50.1.0 is installed; these functions are for datafusion 55"):
        register(SessionContext())


TYPED = """
import arrow_quant

def run(dry: bool) -> None:
    arrow_quant.quantize_model("a", "b", bits=4, progress=False).plot()
    arrow_quant.quantize_model("a", dry_run=True, target_bpw=3.0, memory_limit="1GB", progress=False).to_pandas()
    arrow_quant.quantize_model("a", "b", dry_run=dry, equalize=0.5, activations="c")
    arrow_quant.quantize_model("a", "b", bitz=4)  # type: ignore[call-overload]
    arrow_quant.quantize_model("a", dry_run=True).plot()  # type: ignore[attr-defined]
"""


def test_calls_of_quantize_model_have_types(tmp_path):
    (tmp_path / "typed.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(tmp_path / "typed.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_guide_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    results = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert results.attempted > 30
    assert results.failed == 0
