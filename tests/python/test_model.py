"""`quantize_model`, its report, and the program in the wheel."""

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest

import arrow_quant
from arrow_quant import _lib


def figures(rows):
    """The rows of a report without the seconds, which differ from run to run."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_every_option_of_a_spec_is_a_parameter():
    parameters = set(inspect.signature(arrow_quant.quantize_model).parameters)
    settings = {"path", "output", "profile", "component", "threads", "memory_limit", "batch", "resume", "overwrite", "force", "dry_run", "no_check"}
    assert parameters - settings - {"spec", "progress"} == set(_lib.spec_fields())


def test_a_spec_is_the_same_as_single_options(digits_dit, tmp_path):
    options = {"bits": 2, "group_size": "channel", "exclude": ["attn"], "bits_for": ["mlp=3"]}
    single = arrow_quant.quantize_model(digits_dit, tmp_path / "a", **options)
    whole = arrow_quant.quantize_model(digits_dit, tmp_path / "b", spec=options)
    assert figures(single.to_pylist()) == figures(whole.to_pylist())
    with pytest.raises(arrow_quant.ArgumentError, match="spec="):
        arrow_quant.quantize_model(digits_dit, tmp_path / "c", spec=options, bits=4)
    with pytest.raises(arrow_quant.ArgumentError, match="unknown field bit="):
        arrow_quant.quantize_model(digits_dit, tmp_path / "c", spec={"bit": 4})


def test_a_report_says_what_the_command_says(program, digits_dit, tmp_path):
    seen = []
    report = arrow_quant.quantize_model(
        digits_dit, tmp_path / "a", bits=3, exclude="attn", bits_for={"mlp": 2}, progress=lambda *at: seen.append(at)
    )
    summary = json.loads(
        program(
            "quantize", digits_dit, "--output", tmp_path / "b", "--bits", 3, "--exclude", "attn", "--bits-for", "mlp=2", "--json"
        )
    )
    for name in ("tensors", "quantized_tensors", "bits_per_weight", "sqnr_db", "bytes_in", "bytes_out"):
        assert report.summary[name] == summary[name]
    assert report.output == str(tmp_path / "a")
    assert seen[-1][0] == seen[-1][1] > 0
    assert seen == sorted(seen)
    assert figures(report.to_pylist()) == figures(pq.read_table(tmp_path / "b/report.parquet").to_pylist())
    assert (tmp_path / "a/weights/part-00000.parquet").read_bytes() == (tmp_path / "b/weights/part-00000.parquet").read_bytes()


def test_a_report_is_shown(digits_dit, tmp_path):
    report = arrow_quant.quantize_model(digits_dit, tmp_path / "out", bits=8)
    assert re.fullmatch(r"<Report: \d+ of \d+ tensors quantized at 8\.\d+ bits, \d+\.\d+ dB SQNR; .*>", repr(report))
    html = report._repr_html_()
    quantized = [row for row in report.to_pylist() if row["sqnr_db"] is not None]
    assert html.count("<i title=") == len(quantized) and all(row["name"] in html for row in quantized)
    assert list(report.to_pandas()["bits"].dropna().unique()) == [8]
    figure = report.plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["SQNR (dB)", "size (MB)"]
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == report.summary["quantized_tensors"]
    figure.savefig(tmp_path / "report.png")


def test_a_dry_run_writes_nothing(digits_dit, tmp_path):
    plan = arrow_quant.quantize_model(digits_dit, bits=4, dry_run=True)
    assert isinstance(plan, arrow_quant.Plan)
    assert "tensors would be quantized" in repr(plan)
    rows = plan.to_pylist()
    report = arrow_quant.quantize_model(digits_dit, tmp_path / "out", bits=4)
    assert [row["bytes_out"] for row in rows] == [row["bytes_out"] for row in report.to_pylist()]


def test_what_progress_raises_stops_the_run_and_resume_goes_on(digits_dit, tmp_path):
    def stop(done, total):
        raise RuntimeError("enough")

    output = tmp_path / "out"
    with pytest.raises(RuntimeError, match="enough"):
        arrow_quant.quantize_model(digits_dit, output, progress=stop)
    assert not output.exists()
    report = arrow_quant.quantize_model(digits_dit, output, resume=True)
    assert report.summary["quantized_tensors"] == 15


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"target_bpw": 3.2}, 2),
        ({"equalize": "weights"}, 2),
        ({"equalize": "weights", "format": "safetensors"}, 3),
    ],
)
def test_progress_is_told_of_the_start_and_the_end_of_every_pass(digits_dit, tmp_path, options, passes):
    told = []
    arrow_quant.quantize_model(digits_dit, tmp_path / "out", progress=lambda *now: told.append(now), **options)
    starts = [at for at, (done, _) in enumerate(told) if done == 0]
    assert len(starts) == passes, told
    for start, end in zip(starts, [*starts[1:], len(told)], strict=True):
        scan = told[start:end]
        assert scan == sorted(scan)
        assert len({total for _, total in scan}) == 1
        assert scan[-1][0] == scan[-1][1]


def test_the_bar_says_which_pass_it_is_of(digits_dit, tmp_path, capsys):
    arrow_quant.quantize_model(digits_dit, tmp_path / "out", equalize="weights", progress=True)
    shown = capsys.readouterr().err
    assert all(f"{name}: 100%" in shown for name in ("measure channels", "quantize")), shown


def test_a_path_may_begin_with_a_dash(digits_dit, tmp_path, monkeypatch):
    (tmp_path / "--version").symlink_to(digits_dit)
    monkeypatch.chdir(tmp_path)
    assert arrow_quant.quantize_model("--version", "-out").output == "-out"


INTERRUPTED = """
import os, signal, sys, threading
import arrow_quant

def tell(done, total):
    if done:
        os.kill(os.getpid(), signal.SIGINT)

try:
    arrow_quant.quantize_model(sys.argv[1], sys.argv[2], bits=4, threads=1, progress=tell)
except KeyboardInterrupt:
    print("interrupted", os.path.exists(sys.argv[2]))
"""


def test_control_c_stops_a_run(tmp_path):
    """A model whose parts take long enough for a signal to arrive between them."""
    import numpy as np
    from safetensors.numpy import save_file

    model = tmp_path / "model.safetensors"
    weights = np.random.default_rng(1).normal(size=(2048, 4096)).astype(np.float32)
    save_file({f"layers.{i}.mlp.weight": weights for i in range(12)}, model)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(model), str(tmp_path / "out")], capture_output=True, text=True, timeout=300
    )
    assert done.stdout == "interrupted False\n", done.stderr
    report = arrow_quant.quantize_model(model, tmp_path / "out", bits=4, method="minmax", overwrite=True)
    assert report.summary["quantized_tensors"] == 12


@pytest.mark.parametrize(
    ("options", "exception", "message"),
    [
        ({"bits": 5}, "ArgumentError", "bits= must be 2, 3, 4 or 8, not 5"),
        ({"group_size": 0}, "ArgumentError", "group_size= must be 1 to 4294967295 or 'channel', not '0'"),
        ({"exclude": "("}, "ArgumentError", "("),
        ({"memory_limit": "much"}, "ArgumentError", "memory_limit="),
        ({"resume": True, "overwrite": True}, "ArgumentError", "resume= cannot be used with overwrite="),
        ({"min_sqnr": 90.0}, "ArgumentError", "miss min_sqnr= 90 at every width"),
        ({"format": "safetensors", "target_bpw": 3.0}, "ArgumentError", "target_bpw= needs format= parquet, arrow, compressed-tensors"),
    ],
)
def test_what_is_wrong_is_named(digits_dit, tmp_path, options, exception, message):
    with pytest.raises(arrow_quant.ArrowQuantError) as raised:
        arrow_quant.quantize_model(digits_dit, tmp_path / "out", **options)
    assert type(raised.value) is getattr(arrow_quant, exception), str(raised.value)
    assert message in str(raised.value)


def test_what_no_run_wrote_is_replaced_by_force_alone(digits_dit, tmp_path):
    out = tmp_path / "out"
    arrow_quant.quantize_model(digits_dit, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(arrow_quant.FileError, match="1 entry that no run wrote: 'notes.txt'"):
        arrow_quant.quantize_model(digits_dit, out, overwrite=True)
    with pytest.raises(arrow_quant.FileError, match="is read; give another output"):
        arrow_quant.quantize_model(out, out, overwrite=True, force=True)
    assert (out / "notes.txt").read_text() == "mine"
    arrow_quant.quantize_model(digits_dit, out, overwrite=True, force=True)
    assert not (out / "notes.txt").exists()


def test_a_model_that_is_not_there_is_a_file_error(tmp_path):
    with pytest.raises(arrow_quant.FileError, match="missing"):
        arrow_quant.quantize_model(tmp_path / "missing", tmp_path / "out")
    with pytest.raises(OSError):
        arrow_quant.quantize_model(tmp_path / "missing", tmp_path / "out")


def test_the_program_comes_with_the_wheel(program, digits_dit):
    script = os.path.join(os.path.dirname(sys.executable), "arrow-quant")
    for arguments in (["inspect", str(digits_dit)], ["functions"], ["--version"]):
        done = subprocess.run([script, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, program(*arguments))
    assert subprocess.run([script, "nonsense"], capture_output=True).returncode == 2


def test_control_c_stops_the_program():
    """Python's handler must not stand in the way of a program that does not return to it."""
    command = [sys.executable, "-m", "arrow_quant", "sql"]
    query = "SELECT sum(a.value * b.value) FROM range(0, 1000000) a, range(0, 1000000) b"
    process = subprocess.Popen([*command, query], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    threading.Timer(2.0, process.send_signal, [signal.SIGINT]).start()
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, "error: interrupted\n")
