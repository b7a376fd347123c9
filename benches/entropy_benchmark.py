"""Measures what entropy-coded weights keep of a model at what size: the curve of docs/entropy.md.

    arrow-quant must be built:  cargo build --release
    pip install numpy pyarrow ml_dtypes safetensors
    python benches/entropy_benchmark.py MODEL --include 'weight$' --exclude 'position|token_type'

For each budget the model is quantized with one step (`--method entropy --target-bpw BITS`). Bits are those of the column chunks
of the quantized values in the Parquet files, everything in them counted. The signal-to-noise ratio is that over all weights, in f64,
of what the NumPy oracle of the tests decodes from the files, without arrow-quant: minutes for 22 million weights.
"""

import argparse
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "oracles"))
from entropy_value import decode  # noqa: E402
from quantized_folder import part_paths, read_part, rows_of  # noqa: E402

assert ml_dtypes.bfloat16 is not None  # registers bfloat16 with NumPy

# At most so many bits, at least so many dB: all-MiniLM-L6-v2.
TARGETS = {2.0: 11.1, 2.5: 14.2, 3.0: 17.2, 3.5: 20.2, 4.5: 26.3}


def chunk_bytes(path):
    """The bytes of the column chunks of quantized values in a part, headers of pages and dictionaries included."""
    metadata = pq.ParquetFile(path).metadata
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    columns = (group.column(number) for group in groups for number in range(group.num_columns))
    return sum(column.total_compressed_size for column in columns if column.path_in_schema.startswith("quantized."))


def errors(path):
    """The sums of squares of the weights and of what they lost, and the number of weights, of the quantized rows of a part."""
    signal = noise = count = 0.0
    for row in read_part(path):
        if row["quantized"] is not None:
            name = row["name"]
            weights = TENSORS[name].reshape(rows_of(TENSORS[name].shape))[row["channel"]].astype(np.float64)
            lost = weights - decode(row["quantized"]).astype(np.float64)
            signal, noise, count = signal + weights @ weights, noise + lost @ lost, count + len(weights)
    return signal, noise, count


def main():
    global TENSORS
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a safetensors file, or a folder of them")
    parser.add_argument("--include", action="append", default=[], metavar="REGEX", help="as for arrow-quant quantize")
    parser.add_argument("--exclude", action="append", default=[], metavar="REGEX", help="as for arrow-quant quantize")
    default = os.environ.get("ARROW_QUANT", str(ROOT / "target" / "release" / "arrow-quant"))
    parser.add_argument("--program", default=default, help="default: $ARROW_QUANT, or target/release/arrow-quant")
    parser.add_argument("--bits", type=float, nargs="+", default=list(TARGETS))
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target for all-MiniLM-L6-v2 is missed")
    arguments = parser.parse_args()

    files = sorted(arguments.model.glob("*.safetensors")) if arguments.model.is_dir() else [arguments.model]
    TENSORS = {name: tensor for file in files for name, tensor in load_file(file).items()}
    chosen = [
        x for option in ("include", "exclude") for regex in getattr(arguments, option) for x in (f"--{option}", regex)
    ]
    missed = False
    print("| asked for | bits of the column chunks | SQNR |\n|---|---|---|")
    for bits in arguments.bits:
        with tempfile.TemporaryDirectory() as folder:
            run = ["quantize", arguments.model, "--output", f"{folder}/out", "--method", "entropy", "--target-bpw", bits]
            subprocess.run([arguments.program, *map(str, run), *chosen], check=True, capture_output=True)
            paths = part_paths(f"{folder}/out")
            with multiprocessing.get_context("fork").Pool() as pool:
                signal, noise, count = map(sum, zip(*pool.imap_unordered(errors, paths), strict=True))
            stored = 8 * sum(map(chunk_bytes, paths)) / count
        ratio = 10 * math.log10(signal / noise)
        print(f"| {bits} | {stored:.3f} | {ratio:.2f} dB |", flush=True)
        missed |= stored > bits or ratio < TARGETS.get(bits, -math.inf)
    if arguments.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
