"""Measures how well each method keeps the weights of a model, at what size and at what speed.

    arrow-quant must be built:  cargo build --release
    pip install numpy pyarrow ml_dtypes safetensors matplotlib gguf      (hqq, optimum-quanto, torchao: where wanted)
    python benches/fidelity_benchmark.py tests/data/digits_dit
    python benches/fidelity_benchmark.py MODEL --include 'weight$' --exclude 'position|token_type' --check

Every method quantizes the same matrices: those that arrow-quant chooses, of which rows divide by 64. Bits per weight
count everything that is stored. The signal-to-noise ratio is that over all weights, the cosines are those of whole
tensors, and both are computed here in f64 from what each method decodes to; the folder that arrow-quant writes is
decoded by the NumPy oracle of the tests, without arrow-quant. Speed in memory is that of quantizing alone, array in and
codes out, on one thread: of arrow-quant the time that a query spends in `quantize`, as EXPLAIN ANALYZE measures it. Speed
file to file is that of a whole run of arrow-quant on one thread, with reading, measuring errors and writing; the peers have
none. Peers that are not installed are left out, and the report says so.

For a model with a `config.json` of type digits_dit, the inputs of the layers are known: GPTQ joins the methods, with the
Hessians of what the layers see while digits are drawn, and the error of the predicted noise is measured as well: how far
the quantized model's prediction lies from that of full precision, at each timestep of drawing other digits.

Writes fidelity_benchmark_report.txt, fidelity_benchmark_results.json, fidelity.png and noise_error.png.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from suite.peers import GROUP, PEERS

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))


# --- figures -----------------------------------------------------------------------------------------------------


class Figures:
    """Adds up tensors: ratio, cosines, bits per weight, speed."""

    def __init__(self):
        self.signal = self.noise = self.bits = self.seconds = self.weights = 0
        self.cosines = []

    def add(self, w, decoded, bits, seconds):
        w, decoded = w.astype(np.float64).ravel(), decoded.astype(np.float64).ravel()
        self.signal += w @ w
        self.noise += (w - decoded) @ (w - decoded)
        self.cosines.append(w @ decoded / np.sqrt((w @ w) * (decoded @ decoded)))
        self.bits += bits
        self.seconds += seconds
        self.weights += w.size

    def row(self, method, bits, in_memory=None, file_to_file=None):
        """`in_memory` and `file_to_file` are million weights a second; without either, the seconds added are in memory."""
        if in_memory is None and file_to_file is None:
            in_memory = self.weights / self.seconds / 1e6
        return {
            "method": method,
            "bits": bits,
            "bits_per_weight": self.bits / self.weights,
            "sqnr_db": 10 * np.log10(self.signal / self.noise),
            "mean_cosine": float(np.mean(self.cosines)),
            "worst_cosine": float(np.min(self.cosines)),
            "million_weights_per_second": in_memory,
            "million_weights_per_second_file_to_file": file_to_file,
        }


def run_program(program, arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"arrow-quant {' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


def ours(program, model, choice, folder, more, runs):
    """The output folder, decoded, and its report; of the seconds of each tensor the least over some runs."""
    import pyarrow.parquet as pq
    from quantized_folder import read_quantized_folder

    seconds = {}
    for _ in range(runs):
        arguments = ["quantize", model, "--output", folder, "--overwrite", "--threads", 1, "--json", *choice, *more]
        run_program(program, arguments)
        report = {row["name"]: row for row in pq.read_table(Path(folder) / "report.parquet").to_pylist()}
        for name, row in report.items():
            seconds[name] = min(row["seconds"], seconds.get(name, np.inf))
    return read_quantized_folder(folder), report, seconds


def speed_in_memory(program, model, names, method, bits, weights, runs):
    """Million weights a second in `quantize` over a table in memory, on one thread; the fastest of some runs."""
    listed = ", ".join(f"'{name}'" for name in names)
    explain = f"EXPLAIN ANALYZE SELECT quantize(weights, {bits}, 32, '{method}') FROM t;"
    script = f"CREATE TABLE t AS SELECT weights FROM layers WHERE name IN ({listed}); {explain * runs}"
    printed = run_program(program, ["sql", script, "--table", f"layers={model}", "--threads", 1])
    units = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1.0}
    times = re.findall(r"expr_0_eval_time=([\d.]+)(ns|µs|ms|s)\b", printed)
    if len(times) != runs:
        sys.exit(f"arrow-quant sql: EXPLAIN ANALYZE gave {len(times)} times of {runs}:\n{printed}")
    return weights / min(float(number) * units[unit] for number, unit in times) / 1e6


def load_tensors(model):
    import ml_dtypes
    from safetensors.numpy import load_file

    assert ml_dtypes.bfloat16 is not None  # registers bfloat16 with NumPy
    files = sorted(model.glob("*.safetensors")) if model.is_dir() else [model]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}


def is_digits_dit(model):
    config = model / "config.json"
    return config.is_file() and json.loads(config.read_text()).get("model_type") == "digits_dit"


def write_hessians(tensors, path):
    """The Hessians of the blocks' inputs while digits are drawn, in the table that `arrow-quant --hessians` takes."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from numpy_dit import layer_inputs

    rows = {"name": [], "tokens": [], "hessian": []}
    for name, inputs in layer_inputs(tensors, per_digit=1, steps=25, seed=1000).items():
        if name.startswith("blocks."):
            mean = inputs.astype(np.float64).T @ inputs.astype(np.float64) / len(inputs)
            for column, value in zip(rows, (name, len(inputs), mean[np.triu_indices(len(mean))]), strict=True):
                rows[column].append(value)
    pq.write_table(pa.table({**rows, "hessian": pa.array(rows["hessian"], pa.list_(pa.float64()))}), path)


def measure(arguments, tensors, choice, folder):
    """One row for each method and width, and what arrow-quant's variants decode to."""
    rows, decoded_by = [], {}
    variants = [
        (f"arrow-quant {method}", bits, ["--bits", bits, "--method", method])
        for method, widths in (("search", (2, 3, 4)), ("minmax", (2, 3, 4, 8)))
        for bits in widths
    ]
    if is_digits_dit(arguments.model):
        hessians = folder.with_name("hessians.parquet")
        write_hessians(tensors, hessians)
        variants += [("arrow-quant GPTQ", bits, ["--bits", bits, "--hessians", hessians]) for bits in (2, 3, 4)]
    variants += [("arrow-quant mixed", None, ["--target-bpw", bits]) for bits in (3, 3.5, 4)]
    names = None
    for label, bits, more in variants:
        decoded, report, seconds = ours(arguments.program, arguments.model, choice, folder, more, arguments.runs)
        names = names or [
            name
            for name, row in report.items()
            if row["bits"] is not None and len(row["shape"]) == 2 and row["shape"][1] % GROUP == 0
        ]
        figures = Figures()
        for name in names:
            figures.add(tensors[name], decoded[name], report[name]["bytes_out"] * 8, seconds[name])
        method, in_memory = label.removeprefix("arrow-quant "), None
        if method in ("search", "minmax"):
            timed = arguments.program, arguments.model, names, method, bits, figures.weights, arguments.runs
            in_memory = speed_in_memory(*timed)
        rows.append(figures.row(label, bits, in_memory, figures.weights / figures.seconds / 1e6))
        decoded_by[label, bits or more[1]] = decoded
    left_out = {}
    for package, label, bits, make in PEERS:
        if package == "no hqq" and importlib.util.find_spec("hqq") is not None:
            continue
        try:
            run, figures = make(bits), Figures()
            run(np.ones((1, 4 * GROUP), np.float32))
        except (ImportError, RuntimeError) as error:
            # Some packages compile a part of themselves when they are first used.
            left_out[package] = str(error).splitlines()[0]
            continue
        for name in names:
            w = np.ascontiguousarray(tensors[name].astype(np.float32))
            runs = [run(w) for _ in range(arguments.runs)]
            figures.add(tensors[name], *runs[0][:2], min(seconds for *_, seconds in runs))
        rows.append(figures.row(label, bits))
    return rows, decoded_by, left_out, names


def noise_error(model, tensors, decoded_by):
    """{variant: [error of the predicted noise at each timestep]}, as a share of the power of what is predicted."""
    from numpy_dit import Dit, draw

    visited = []
    draw(Dit(tensors), 4, 25, 0, lambda x, t, labels, predicted: visited.append((x, t, labels, predicted)))
    errors = {"timesteps": [t for _, t, _, _ in visited]}
    for (label, bits), decoded in decoded_by.items():
        quantized = Dit({name: np.float32(tensor) for name, tensor in decoded.items()})
        shares = [
            np.mean((quantized(x, np.full(len(x), t), labels) - predicted) ** 2) / np.mean(predicted**2)
            for x, t, labels, predicted in visited
        ]
        errors[f"{label}, {bits} bits" if label != "arrow-quant mixed" else f"{label}, {bits} bits/weight"] = [
            float(s) for s in shares
        ]
    return errors


# --- report, chart, targets --------------------------------------------------------------------------------------


def chart(rows, path, title):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    markers = iter("osD^v<>PX*hp")
    for method in dict.fromkeys(row["method"] for row in rows):
        points = [row for row in rows if row["method"] == method]
        style = {"linewidth": 2} if method.startswith("arrow-quant") else {"linewidth": 1, "linestyle": "--"}
        axes.plot(
            [p["bits_per_weight"] for p in points],
            [p["sqnr_db"] for p in points],
            marker=next(markers),
            label=method,
            **style,
        )
    axes.set(
        xlabel="bits per weight, everything counted", ylabel="signal-to-noise ratio of the weights (dB)", title=title
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def noise_chart(errors, path):
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.8))
    # A colour for each width, a line for each method.
    colours = {"2 bits": "tab:red", "3 bits": "tab:orange", "4 bits": "tab:green", "8 bits": "tab:blue"}
    lines = {"search": "-", "GPTQ": "--", "minmax": ":", "mixed": "-."}
    shown = [label for label in errors if label.split(", ")[0] in ("arrow-quant search", "arrow-quant GPTQ")]
    shown += ["arrow-quant minmax, 2 bits", "arrow-quant minmax, 8 bits", "arrow-quant mixed, 3.5 bits/weight"]
    for label in shown:
        method, width = label.removeprefix("arrow-quant ").split(", ")
        style = {"color": colours.get(width, "gray"), "linestyle": lines[method]}
        axes.semilogy(errors["timesteps"], errors[label], label=label, **style)
    axes.set(
        xlabel="timestep (1000 is noise, 0 the image)",
        ylabel="error of the predicted noise\n(share of its power)",
        title="Digits DiT: predicted noise, quantized against full precision",
    )
    axes.invert_xaxis()
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, ncols=2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def environment(arguments):
    revision = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True).stdout.strip()
    packages = {}
    for package in ("numpy", "gguf", "hqq", "optimum-quanto", "torchao", "torch"):
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            packages[package] = None
    cpu = (
        next((l.split(":")[1].strip() for l in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in l), "")
        if Path("/proc/cpuinfo").exists()
        else ""
    )
    return {
        "arrow_quant": run_program(arguments.program, ["--version"]).strip(),
        "revision": revision,
        "machine": platform.platform(),
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
    }


def targets(rows):
    """Lines of pass or fail: no peer of the same bits keeps more, and the search is 100 times as fast as HQQ's solver."""
    lines = []
    for row in rows:
        if row["method"] not in ("arrow-quant search", "arrow-quant minmax") or (
            row["method"].endswith("minmax") and row["bits"] != 8
        ):
            continue
        peers = [p for p in rows if not p["method"].startswith("arrow-quant") and p["bits"] == row["bits"]]
        peers = [p for p in peers if p["bits_per_weight"] <= row["bits_per_weight"] + 0.15]
        best = max(peers, key=lambda p: p["sqnr_db"], default=None)
        if best:
            verdict = "pass" if row["sqnr_db"] > best["sqnr_db"] else "FAIL"
            lines.append(
                f"{verdict}: {row['bits']} bits, {row['sqnr_db']:.2f} dB at {row['bits_per_weight']:.3f} bits per weight;"
                f" the best peer of that size is {best['method']} with {best['sqnr_db']:.2f} dB"
            )
    for hqq in (p for p in rows if p["method"].startswith("HQQ")):
        search = next((r for r in rows if r["method"] == "arrow-quant search" and r["bits"] == hqq["bits"]), None)
        ratio = search["million_weights_per_second"] / hqq["million_weights_per_second"]
        verdict = "pass" if ratio >= 100 else "FAIL"
        lines.append(
            f"{verdict}: {hqq['bits']} bits, in memory the search is {ratio:.1f} times as fast as {hqq['method']} (target 100);"
            f" file to file it is {search['million_weights_per_second_file_to_file'] / hqq['million_weights_per_second']:.1f}"
        )
    return lines


def speed(value):
    return "-" if value is None else f"{value:.2f}"


def report(rows, lines, left_out, where, title):
    text = [
        title,
        "",
        f"{where['arrow_quant']}, {where['revision'][:12]}; {where['cpu']}, {where['cores']} cores; one thread",
        "",
    ]
    text.append(
        f"{'method':<24} {'bits':>4} {'bits/weight':>11} {'SQNR dB':>8} {'mean cosine':>11} {'worst':>9} {'Mweights/s':>11}"
        f" {'file to file':>12}"
    )
    for row in sorted(rows, key=lambda row: (row["bits_per_weight"], row["method"])):
        text.append(
            f"{row['method']:<24} {row['bits'] or '-':>4} {row['bits_per_weight']:>11.3f} {row['sqnr_db']:>8.2f}"
            f" {row['mean_cosine']:>11.6f} {row['worst_cosine']:>9.6f}"
            f" {speed(row['million_weights_per_second']):>11} {speed(row['million_weights_per_second_file_to_file']):>12}"
        )
    if left_out:
        text += ["", *(f"left out: {package}: {why}" for package, why in left_out.items())]
    return "\n".join([*text, "", *lines, ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a safetensors file, or a folder of them")
    parser.add_argument("--include", action="append", default=[], metavar="REGEX", help="as for arrow-quant quantize")
    parser.add_argument("--exclude", action="append", default=[], metavar="REGEX", help="as for arrow-quant quantize")
    default = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))
    parser.add_argument("--program", default=default, help="default: $ARROW_QUANT, or target/release/arrow-quant")
    parser.add_argument("--runs", type=int, default=3, help="runs of which the fastest counts (default %(default)s)")
    parser.add_argument("--output-dir", type=Path, default=Path(".benchmarks/fidelity"))
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    arguments = parser.parse_args()

    tensors = load_tensors(arguments.model)
    choice = [
        x for option in ("include", "exclude") for regex in getattr(arguments, option) for x in (f"--{option}", regex)
    ]
    with tempfile.TemporaryDirectory() as folder:
        rows, decoded_by, left_out, names = measure(arguments, tensors, choice, Path(folder) / "out")
    where = environment(arguments)
    lines = targets(rows)
    weights = sum(tensors[name].size for name in names)
    title = f"{arguments.model.resolve().name}: {len(names)} matrices, {weights / 1e6:.1f} million weights"

    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    results = {
        "model": str(arguments.model),
        "matrices": names,
        "results": rows,
        "left_out": left_out,
        "environment": where,
        "targets": lines,
    }
    text = report(rows, lines, left_out, where, title)
    chart(rows, arguments.output_dir / "fidelity.png", title)
    if is_digits_dit(arguments.model):
        errors = results["noise_error"] = noise_error(arguments.model, tensors, decoded_by)
        noise_chart(errors, arguments.output_dir / "noise_error.png")
        text += "\nerror of the predicted noise, mean over timesteps, as a share of its power\n"
        text += "".join(
            f"{label:<32} {np.mean(shares):.6f}\n" for label, shares in errors.items() if label != "timesteps"
        )
    (arguments.output_dir / "fidelity_benchmark_report.txt").write_text(text)
    (arguments.output_dir / "fidelity_benchmark_results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(text)
    if arguments.check and any(line.startswith("FAIL") for line in lines):
        sys.exit(1)


if __name__ == "__main__":
    main()
