"""Prints the error of all matrices of a model in MLX's codes, in dB: mx.quantize's, and those of `--format mlx`.

    python tests/mlx/error_beside_mlx.py MODEL [GROUP_SIZE]

Every tensor `NAME.weight` of rank 2 whose rows are whole groups. Both are decoded by mx.dequantize, in F32.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import mlx.core as mx
import numpy as np

PROGRAM = os.environ.get("ARROW_QUANT", "target/release/arrow-quant")
INTEGERS = {"int2": 2, "int3": 3, "int4": 4, "int5": 5, "int6": 6, "int8": 8}
SMALL = {"mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}


def main(model, group_size=64):
    tensors = {}
    for path in sorted(Path(model).glob("*.safetensors")):
        tensors |= {name: array.astype(mx.float32) for name, array in mx.load(str(path)).items()}
    print(f"{'type':6} {'bits':>6} {'mx.quantize':>12} {'--format mlx':>13}")
    for kind in (*INTEGERS, *SMALL):
        if kind in SMALL:
            said = dict(zip(("group_size", "bits"), SMALL[kind], strict=True)) | {"mode": kind}
            cost = said["bits"] + 8 / said["group_size"]
        else:
            said = {"group_size": group_size, "bits": INTEGERS[kind]}
            cost = said["bits"] + 64 / group_size
        with tempfile.TemporaryDirectory() as place:
            run = [PROGRAM, "quantize", model, "--output", f"{place}/out", "--format", "mlx", "--mlx-type", kind]
            run += ["--group-size", str(group_size), "--include", "weight$", "--no-check"]
            subprocess.run(run, check=True, capture_output=True)
            made = mx.load(f"{place}/out/model.safetensors")
            power, ours, theirs = 0.0, 0.0, 0.0
            for name in [name.removesuffix(".scales") for name in made if name.endswith(".scales")]:
                source = tensors[f"{name}.weight"]
                layer = [made[f"{name}.{part}"] for part in ("weight", "scales", "biases") if f"{name}.{part}" in made]
                original = np.array(source).astype(np.float64)
                error = lambda codes: ((original - np.array(mx.dequantize(*codes, **said, dtype=mx.float32))) ** 2).sum()
                power += (original**2).sum()
                ours += error(layer)
                theirs += error(mx.quantize(source, **said))
        print(f"{kind:6} {cost:6.2f} {10 * np.log10(power / theirs):9.2f} dB {10 * np.log10(power / ours):10.2f} dB")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
