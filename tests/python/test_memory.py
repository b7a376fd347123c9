"""The memory limit of SQL, measured from outside: a query spills or ends in one line, and its process stays small."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

PROGRAM = Path(os.environ.get("ARROW_QUANT", Path(__file__).parents[2] / "target" / "release" / "arrow-quant"))
MB = 1_000_000
LIMIT = 8 * MB
# Beside what a query holds: the program itself, batches in the making, and what the allocator keeps of them.
STREAMING = 110 * MB
NAMES = [f"layers.{number}.w.weight" for number in range(20)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """80 MB of weights, ten times the limit; every row begins with a number that no other has, in no order."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    random = np.random.default_rng(15)
    first = random.permutation(20 * 1000).astype(np.float32).reshape(20, 1000)
    tensors = {}
    for name, column in zip(NAMES, first, strict=True):
        tensors[name] = random.standard_normal((1000, 1000), dtype=np.float32)
        tensors[name][:, 0] = column
    save_file(tensors, path)
    return path, first


class Done:
    """How a process ended, and the peak of its resident memory."""

    def __init__(self, model, folder, query, limit=LIMIT):
        command = [PROGRAM, "sql", "--threads", "2", "--memory-limit", str(limit), query]
        command += [f"--table={table}={model}" for table in "ab"] + ["--max-rows", "3"]
        out, err = folder / "out", folder / "err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr, cwd=folder)
            status = Path(f"/proc/{process.pid}/status")
            # Not `ru_maxrss`: it begins with what the process that forked had.
            self.peak = 0
            while process.poll() is None:
                lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
                self.peak = max([self.peak, *(int(line.split()[1]) * 1024 for line in lines)])
                time.sleep(0.005)
        self.code = process.returncode
        assert self.peak > MB
        self.out, self.err = out.read_text(), err.read_text()


QUERIES = {
    "sort": "SELECT name, channel FROM (SELECT name, channel FROM a ORDER BY weights) OFFSET 19997",
    "group": "SELECT count(*) FROM (SELECT weights FROM a GROUP BY weights)",
    "gather": "SELECT array_length(array_agg(weights)) FROM a",
    "gather by name": "SELECT name, array_length(array_agg(weights)) FROM a GROUP BY name",
    "cross join": "SELECT count(*) FROM (SELECT a.weights AS x, b.weights AS y FROM a, b) WHERE x[2] < y[3] - 1000000",
    "table": "CREATE TABLE kept AS SELECT * FROM a; SELECT count(*) FROM kept",
    "small table": "CREATE TABLE kept AS SELECT name, channel FROM a; SELECT count(*) FROM kept",
    "distinct": "SELECT count(DISTINCT weights) FROM a",
    "window": "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY weights) AS n FROM a)",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_over_ten_times_the_limit_spills_or_ends_in_one_line(model, tmp_path, query):
    done = Done(model[0], tmp_path, QUERIES[query])
    assert done.code in (0, 1), (done.code, done.err)
    if done.code == 1:
        assert done.err.startswith("error: ") and done.err.count("\n") == 1, done.err
        assert "--memory-limit" in done.err, done.err
    assert done.peak < LIMIT + STREAMING, f"{done.peak / MB:.0f} MB"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["err", "out"]


def test_rows_that_are_sorted_on_disk_are_all_there_and_in_order(model, tmp_path):
    path, first = model
    target = tmp_path / "sorted.parquet"
    query = f"COPY (SELECT name, channel FROM a ORDER BY weights) TO '{target}' STORED AS PARQUET"
    done = Done(path, tmp_path, query, 4 * LIMIT)
    assert done.code == 0, done.err
    assert done.peak < 4 * LIMIT + STREAMING, f"{done.peak / MB:.0f} MB"
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(target)
    rows = zip(rows["name"].to_pylist(), rows["channel"].to_pylist(), strict=True)
    found = [first[NAMES.index(name), channel] for name, channel in rows]
    assert found == list(range(20 * 1000))
