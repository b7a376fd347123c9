"""What the system refuses ends a run in one line: the size of a file, open files, threads."""

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

PROGRAM = Path(os.environ.get("ARROW_QUANT", Path(__file__).parents[2] / "target" / "release" / "arrow-quant"))
NOBODY = 65534


@pytest.fixture
def public(digits_dit):
    """A folder that any user may write to, with the program and a model: the system limits threads by user, and root's not."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        shutil.copy2(PROGRAM, folder / "arrow-quant")
        shutil.copytree(digits_dit, folder / "model")
        yield folder


def run(folder, limit, *arguments):
    """Runs the program under a limit of the shell, as a user who has one."""
    user = NOBODY if os.getuid() == 0 else None
    command = ["bash", "-c", f'ulimit {limit}; exec "$0" "$@"', folder / "arrow-quant", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, user=user, cwd=folder)


def one_line(done):
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("layout", ["parquet", "arrow", "safetensors", "gguf"])
def test_a_file_that_may_not_grow_is_named(public, layout):
    options = ["--bits", "8"] if layout == "gguf" else []
    done = run(public, "-f 16", "quantize", "model", "-o", "out", "--format", layout, *options)
    line = one_line(done)
    assert "out.partial/output/" in line and "File too large" in line, line
    done = run(public, "-f unlimited", "quantize", "model", "-o", "out", "--format", layout, *options, "--resume")
    assert done.returncode == 0, done.stderr


def test_a_query_that_may_not_write_names_the_file(public):
    query = "COPY (SELECT * FROM safetensors('model')) TO 'copy.safetensors'"
    line = one_line(run(public, "-f 16", "sql", query))
    assert "copy.safetensors" in line and "File too large" in line, line


def test_every_number_of_open_files_is_enough_or_said_to_be_too_small(public):
    refused = 0
    for files in range(5, 40):
        done = run(public, f"-n {files}", "quantize", "model", "-o", f"out{files}")
        if done.returncode == 0:
            break
        assert "Too many open files" in one_line(done)
        refused += 1
    else:
        pytest.fail("40 files are not enough")
    assert refused


@pytest.mark.parametrize(
    "arguments",
    [
        ("quantize", "model", "-o", "out", "--overwrite", "--threads", "2"),
        ("quantize", "model", "-o", "out", "--overwrite", "--format", "compressed-tensors", "--threads", "2"),
        ("sql", "SELECT count(quantize(weights, 4)) FROM safetensors('model')", "--threads", "2"),
    ],
    ids=lambda arguments: arguments[0] + (arguments[6] if "--format" in arguments else ""),
)
def test_every_number_of_threads_is_enough_or_said_to_be_too_small(public, arguments):
    uid = NOBODY if os.getuid() == 0 else os.getuid()
    mine = sum(
        len(list(task.iterdir()))
        for task in Path("/proc").glob("[0-9]*/task")
        if stat.S_ISDIR(task.stat().st_mode) and task.stat().st_uid == uid
    )
    refused = 0
    for threads in range(mine, mine + 60):
        done = run(public, f"-u {threads}", *arguments)
        if done.returncode == 0:
            break
        if "bash: fork" in done.stderr or done.returncode in (126, 254):
            continue
        assert "cannot start the threads" in one_line(done)
        refused += 1
    else:
        pytest.fail("60 threads are not enough")
    assert refused
