"""Weights of every kind, quantized every way, and decoded with NumPy by what the formats say."""

import itertools
import json
import shutil
import sys

import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from models import CONFIG
from program import ROOT, Failed, expect_success

sys.path.insert(0, str(ROOT / "tests" / "oracles"))
import packed_folder
from quantized_folder import part_paths, read_part, unpack_codes

ROWS, LENGTHS = 8, (96, 256, 1000)
DTYPES = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}
BITS, GROUPS = ("2", "3", "4", "8"), ("8", "32", "128", "channel")
SCALES = np.float32((1 + np.arange(256) % 16 / 16) * 2.0 ** (np.arange(256) // 16 - 15))
K_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]


def outlier(rng, shape):
    rows = rng.normal(0, 0.02, shape)
    rows[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = 3
    return rows


def one_differs(rng, shape):
    rows = np.full(shape, 0.125)
    rows[:, ::32] = -0.5
    return rows


# What rows may hold, by name: a function of a generator and a shape.
KINDS = {
    "normal": lambda rng, shape: rng.normal(0, 0.03, shape),
    "heavy": lambda rng, shape: rng.standard_t(2, shape) * 0.02,
    "laplace": lambda rng, shape: rng.laplace(0, 0.02, shape),
    "positive": lambda rng, shape: rng.uniform(0.1, 1, shape),
    "negative": lambda rng, shape: -rng.uniform(0.5, 1, shape),
    "constant": lambda rng, shape: np.broadcast_to(rng.normal(0, 1, (shape[0], 1)), shape),
    "spread-0.0001%": lambda rng, shape: 0.5 * (1 + rng.normal(0, 1e-6, shape)),
    "spread-0.01%": lambda rng, shape: -0.5 * (1 + rng.normal(0, 1e-4, shape)),
    "spread-1%": lambda rng, shape: 0.03 * (1 + rng.normal(0, 1e-2, shape)),
    "spread-10%": lambda rng, shape: 0.03 * (1 + rng.normal(0, 1e-1, shape)),
    "zero": lambda rng, shape: np.zeros(shape),
    "one-outlier": outlier,
    "one-differs": one_differs,
    "two-values": lambda rng, shape: rng.choice((-0.25, 0.75), shape),
    "sparse": lambda rng, shape: rng.normal(0, 0.1, shape) * (rng.random(shape) < 0.05),
    "ramp": lambda rng, shape: np.broadcast_to(np.linspace(-1, 1, shape[1]), shape),
    "small": lambda rng, shape: rng.normal(0, 2e-5, shape),
    "mixed": lambda rng, shape: rng.normal(0, 1, shape) * 10.0 ** rng.uniform(-4, 2, shape),
    "tiny": lambda rng, shape: rng.normal(0, 1e-25, shape),
    "denormal": lambda rng, shape: rng.normal(0, 1e-40, shape),
    "huge": lambda rng, shape: rng.normal(0, 1e30, shape),
}
# Beyond what F16 holds.
WIDE = {"tiny", "denormal", "huge"}


def write_kinds(folder, seed, kinds):
    """A model of one tensor for each kind, length and dtype."""
    rng, tensors = np.random.default_rng(seed), {}
    for (kind, make), length, (dtype, numpy_type) in itertools.product(kinds.items(), LENGTHS, DTYPES.items()):
        if dtype != "f16" or kind not in WIDE:
            tensors[f"{kind}.{length}.{dtype}.weight"] = np.ascontiguousarray(make(rng, (ROWS, length)), numpy_type)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return tensors


def decode_parts(folder):
    """The quantized tensors of an own folder, and the length of each one's groups."""
    rows = {}
    for path in part_paths(folder):
        for row in read_part(path):
            if row["quantized"] is not None:
                rows.setdefault(row["name"], []).append((row["channel"], row["quantized"]))
    tensors, groups = {}, {}
    for name, found in rows.items():
        found.sort(key=lambda row: row[0])
        tensors[name] = np.stack([decode_row(row) for _, row in found])
        groups[name] = min(found[0][1]["group_size"], found[0][1]["length"])
    return tensors, groups


def decode_row(row):
    """One row, as `quantized_folder.decode_row` does it, all groups at once."""
    bits, length = row["bits"], row["length"]
    codes = unpack_codes(row["codes"], bits, length).astype(np.float32)
    of_weight = np.arange(length) // row["group_size"]
    scales = np.float32(row["row_scale"]) * SCALES[np.frombuffer(row["scales"], np.uint8)]
    zero_points = np.full(len(scales), 2 ** (bits - 1), np.float32)
    if row["zero_points"] is not None:
        stored = np.frombuffer(row["zero_points"], np.uint8)
        zero_points = (stored * np.float32(2**bits - 1)) / np.float32(255)
    return scales[of_weight] * (codes - zero_points[of_weight])


def decode_exactly(folder, output_format):
    """As `decode`, but packed codes are multiplied in f64 and not in the dtype of the scales, which rounds what the search
    compares."""
    if output_format != "compressed-tensors":
        return decode(folder, output_format)
    tensors = load_file(folder / "model.safetensors")
    wide = {name: tensor.astype(np.float64) if name.endswith("_scale") else tensor for name, tensor in tensors.items()}
    groups = json.loads((folder / "config.json").read_text())["quantization_config"]["config_groups"]
    (weights,) = (group["weights"] for group in groups.values())
    modules = [name.removesuffix(".weight_packed") for name in tensors if name.endswith(".weight_packed")]
    return {f"{module}.weight": packed_folder.decode(module, wide, weights) for module in modules}


def decode_packed(folder):
    tensors, modules = packed_folder.read_packed_folder(folder)
    names = [f"{module}.weight" for module in modules]
    return {name: tensors[name] for name in names}


def decode_gguf(folder):
    from gguf import GGUFReader, dequantize

    tensors = {}
    for tensor in GGUFReader(folder / "model.gguf").tensors:
        rows = tensor.data if tensor.tensor_type.name in ("F32", "F16") else dequantize(tensor.data, tensor.tensor_type)
        tensors[tensor.name] = np.asarray(rows).reshape(tensor.shape[::-1])
    return tensors


def decode(folder, output_format):
    """All quantized tensors of a folder."""
    if output_format in ("parquet", "arrow"):
        return decode_parts(folder)[0]
    if output_format == "compressed-tensors":
        return decode_packed(folder)
    if output_format == "gguf":
        return decode_gguf(folder)
    return load_file(folder / "model.safetensors")


def figures(original, decoded):
    """Squared error and signal, their ratio in dB, the largest error, and the cosine."""
    a, b = original.astype(np.float64), decoded.astype(np.float64)
    error, signal = np.sum((a - b) ** 2), np.sum(a**2)
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr = np.inf if error == 0 else 10 * np.log10(signal / error)
        # Rows of zeros are alike; they share no direction with others.
        cosine = np.sum(a * b) / np.sqrt(signal * np.sum(b**2)) if a.any() and b.any() else float(a.any() == b.any())
    return {"mse": error / a.size, "sqnr_db": sqnr, "max_abs_error": np.abs(a - b).max(), "cosine": cosine}


def differs(reported, computed):
    """Names a reported figure that is not the computed one; sums are partly made in f32."""
    for name, value in computed.items():
        said = reported[name]
        if said is None:
            if name != "cosine" or np.isfinite(value):
                return f"{name} is not reported, and is {value}"
        elif not (said == value or abs(said - value) <= {"sqnr_db": 1e-3, "cosine": 1e-5}.get(name, 1e-4 * abs(value))):
            return f"{name} is reported as {said}, and is {value}"
    return None


class Numerics:
    name = "figures of tensors"
    asks = (
        "Tensors of 21 kinds of rows, three lengths and three dtypes, quantized to every width, group size and format. "
        "The error that the report gives is that of an independent decoder in NumPy."
    )

    def __init__(self, setup):
        self.setup = setup
        self.models = {}
        for name, left_out in (("all", ()), ("half", WIDE)):
            kinds = {kind: make for kind, make in KINDS.items() if kind not in left_out}
            self.models[name] = setup.folder / name, write_kinds(setup.folder / name, setup.seed, kinds)

    def cases(self):
        for symmetry, method, bits, group in itertools.product(SYMMETRIES, ("search", "minmax"), BITS, GROUPS):
            yield f"parquet/{bits}/{group}/{symmetry}/{method}"
            if group in ("32", "channel") and method == "search":
                yield f"compressed-tensors/{bits}/{group}/{symmetry}/{method}"
        for bits in BITS:
            yield f"arrow/{bits}/32/asymmetric/search"
            yield f"safetensors/{bits}/32/asymmetric/search"
        for block in K_TYPES:
            yield f"gguf/{block}"

    def run(self, case):
        output_format, *options = case.split("/")
        path, tensors = self.models["half" if output_format == "gguf" else "all"]
        out = quantize(self.setup, path, case)
        decoded = decode(out, output_format)
        report = {row["name"]: row for row in pq.read_table(out / "report.parquet").to_pylist()}
        shutil.rmtree(out)
        tried, wrong = 0, []
        for name, original in tensors.items():
            if report[name]["bits"] is None:
                continue
            tried += 1
            if name not in decoded or not np.isfinite(decoded[name].astype(np.float64)).all():
                wrong.append(f"{name} does not decode to numbers")
            elif problem := differs(report[name], figures(original, decoded[name])):
                wrong.append(f"{name}: {problem}")
        if wrong:
            raise Failed(f"{len(wrong)} of {tried} tensors, first {wrong[0]}", tried, len(wrong))
        return tried


SYMMETRIES = {"asymmetric": (), "symmetric": ("--symmetric",)}


def quantize(setup, path, case):
    """Quantizes a file as a case says: `parquet/4/32/asymmetric/search` or `gguf/Q4_K`."""
    out = setup.folder / "trials" / case.replace("/", "-")
    out.parent.mkdir(exist_ok=True)
    output_format, *options = case.split("/")
    if output_format == "gguf":
        more = ("--gguf-type", options[0])
    else:
        bits, group, symmetry, method = options
        more = ("--bits", bits, "--group-size", group, "--method", method, *SYMMETRIES[symmetry])
    command = ("quantize", path, "--output", out, "--format", output_format, "--include", "weight", "--json", *more)
    expect_success(setup.run(*command, timeout=300), "the run")
    return out


# Sums of f32 tell the errors of two candidates apart to 0.02 dB.
MOST = 1.005


class Searches:
    name = "search against min-max, groups"
    asks = (
        "The same tensors by `search` and by `minmax`, both decoded with NumPy: the search nowhere makes a larger squared "
        "error, to 0.02 dB. Compared is each group; in own formats, whose groups share the scale of their row, each row."
    )

    def __init__(self, setup):
        self.setup, self.path = setup, setup.folder / "kinds"
        self.tensors = write_kinds(self.path, setup.seed, KINDS)

    def cases(self):
        for output_format, *options in itertools.product(("parquet", "compressed-tensors"), BITS, GROUPS, SYMMETRIES):
            yield "/".join((output_format, *options))

    def run(self, case):
        output_format, _, group, _ = case.split("/")
        if output_format == "parquet":
            group = "channel"
        errors = []
        for method in ("search", "minmax"):
            out = quantize(self.setup, self.path, f"{case}/{method}")
            errors.append(self.group_errors(decode_exactly(out, output_format), group))
            shutil.rmtree(out)
        tried, wrong = 0, []
        for name, (searched, slack) in errors[0].items():
            worse = searched > errors[1][name][0] * MOST + slack
            tried += searched.size
            if worse.any():
                row, at = np.argwhere(worse)[0]
                lost = searched[row, at] / max(errors[1][name][0][row, at], 1e-300)
                wrong.append((np.count_nonzero(worse), f"{name}, row {row}, group {at}: {lost:.6g} times the error"))
        if wrong:
            failed = sum(count for count, _ in wrong)
            raise Failed(f"{failed} of {tried} groups in {len(wrong)} tensors, first {wrong[0][1]}", tried, failed)
        return tried

    def group_errors(self, decoded, group):
        """Of each group the squared error, and what rounding to f32 may add to it."""
        found = {}
        for name, tensor in decoded.items():
            original = self.tensors[name].astype(np.float64)
            size = original.shape[1] if group == "channel" else int(group)
            starts = np.arange(0, original.shape[1], size)
            error = np.add.reduceat((original - tensor.astype(np.float64)) ** 2, starts, axis=1)
            found[name] = error, 4 * 2.0**-48 * np.add.reduceat(original**2, starts, axis=1)
        return found
