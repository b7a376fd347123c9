"""The limit of 2.5 bits per weight: every pair of codes that the stored form has, tried on each group.

    pip install numpy safetensors ml_dtypes
    cargo build --release
    python benches/format_limit.py                      # Student-t and normal rows, 2 and 4 bits
    python benches/format_limit.py --model MODEL        # rows of a model's matrices

For each group all 256 scale codes that could be the best are tried with all zero-point codes (groups of 32), or with
the middle as the zero point (groups of 16): both take half a bit a weight beside the codes. The third form, groups of
16 whose scale has a sign, is not stored by arrow-quant; it is here to say what it would be worth. Beside the limits
stands what `arrow-quant quantize` reaches on the same rows. dB is the ratio of all rows together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FACTORS = ((1 + np.arange(256) % 16 / 16) * 2.0 ** (np.arange(256) // 16 - 15)).astype(np.float32)


def errors(groups, scale, zero, most):
    """The squared error of each group [n, g] at a scale [n] and a zero point."""
    x = groups / scale[:, None]
    decoded = np.clip(np.rint(x + zero), 0, most) - zero
    return ((decoded - x) ** 2).sum(1) * scale**2


def limit(rows, bits, group, zeros, signs=(1,)):
    """The least squared error of all rows [rows, length] by any scale code, any of the zero points, any of the signs."""
    most, total = 2**bits - 1, 0.0
    for row in rows:
        groups = row.reshape(-1, group)
        low, high = np.minimum(groups.min(1), 0), np.maximum(groups.max(1), 0)
        if len(zeros) > 1:
            cover = (high - low) / most
        else:
            cover = np.maximum(-low, high) / 2 ** (bits - 1)
        row_scale = cover.max()
        best = np.full(len(groups), np.inf, np.float32)
        # Codes down from that which covers the group; where a sign or one side is clipped, up to twice as wide.
        top = np.searchsorted(FACTORS, cover / row_scale) + (2 if len(zeros) > 1 else 18)
        for step in range(32 if len(zeros) > 1 else 48):
            scale = (row_scale * FACTORS[np.clip(top - step, 0, 255)]).astype(np.float32)
            for zero in zeros:
                for sign in signs:
                    best = np.minimum(best, errors(sign * groups, scale, np.float32(zero), most))
        total += best.sum(dtype=np.float64)
    return total


def reached(program, rows, bits):
    """dB and bits per weight that arrow-quant reports for the rows."""
    from safetensors.numpy import save_file

    with tempfile.TemporaryDirectory() as folder:
        save_file({"layers.0.rows.weight": rows}, Path(folder) / "model.safetensors")
        command = [program, "quantize", Path(folder) / "model.safetensors", "--output", Path(folder) / "out"]
        command += ["--bits", bits, "--json"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr.strip())
        summary = json.loads(done.stdout)
    return summary["sqnr_db"], summary["bits_per_weight"]


def rows_of_model(model, count, length):
    """The first `count` rows of each matrix, cut to `length` where they are longer."""
    import ml_dtypes
    from safetensors import safe_open

    assert ml_dtypes.bfloat16 is not None  # registers bfloat16 with NumPy
    found = []
    for file in sorted(model.glob("*.safetensors")) if model.is_dir() else [model]:
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118, not a dict
                shape = tensors.get_slice(name).get_shape()
                if len(shape) == 2 and shape[1] >= length:
                    found.append(tensors.get_slice(name)[:count, :length].astype(np.float32))
    if not found:
        sys.exit(f"{model}: has no matrix with rows of {length} or more")
    return np.concatenate(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a safetensors file or folder, instead of random rows")
    parser.add_argument("--rows", type=int, default=32, help="of each matrix, or random ones (default %(default)s)")
    parser.add_argument("--length", type=int, default=None, help="weights of a row (default 4096; of a model 1024)")
    parser.add_argument("--seeds", type=int, default=3, help="draws of random rows (default %(default)s)")
    default = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))
    parser.add_argument("--program", default=default, help="default: $ARROW_QUANT, or target/release/arrow-quant")
    arguments = parser.parse_args()
    if arguments.model:
        length = arguments.length or 1024
        sources = {str(arguments.model): rows_of_model(arguments.model, arguments.rows, length)}
    else:
        sources, shape = {}, (arguments.rows, arguments.length or 4096)
        for seed in range(arguments.seeds):
            random = np.random.default_rng(seed)
            sources[f"Student-t(3), seed {seed}"] = random.standard_t(3, shape).astype(np.float32)
            sources[f"normal, seed {seed}"] = random.standard_normal(shape, np.float32)
    print(f"{'rows':<24} {'bits':>4} {'bits/weight':>11} {'reached':>8} | limits: groups of 32, 16, 16 with a sign")
    for label, rows in sources.items():
        signal = np.square(rows, dtype=np.float64).sum()
        for bits in (2, 4):
            db, stored = reached(arguments.program, rows, bits)
            most, middle = 2**bits - 1, [2 ** (bits - 1)]
            limits = (
                limit(rows, bits, 32, [code * most / 255 for code in range(0, 256, 2)]),
                limit(rows, bits, 16, middle),
                limit(rows, bits, 16, middle, (1, -1)),
            )
            figures = " ".join(f"{10 * np.log10(signal / error):7.2f}" for error in limits)
            print(f"{label:<24} {bits:>4} {stored:>11.3f} {db:>8.2f} | {figures}", flush=True)


if __name__ == "__main__":
    main()
