"""Runs `simd_benchmark` and prints what it found: the kernels beside what memory allows, and beside scalar code."""

import argparse
import json
import os
import sys
from pathlib import Path

from suite.report import Report, add_common_options
from suite.runner import rust
from suite.workloads import ROOT

# What was promised of each, over scalar code.
TARGETS = {"avx2": 3.0, "neon": 2.0}

# Billion weights a second, of a row in the nearest cache.
IN_CACHE = {"avx512": 2.5, "avx2": 1.5}
CACHED = 4096

# The share of the speed of something plain that was promised out of cache.
OF_MEMORY = [("quantize", "copy", 0.7), ("dequantize", "fill", 0.7), ("cosine_similarity", "sum of both", 0.9)]


def medians(folder: Path) -> dict[tuple[str, str], float]:
    """Nanoseconds by case and variant, from criterion's own files: `quantize/768x768/avx2` is case and variant."""
    found = {}
    for file in sorted(folder.glob("**/new/benchmark.json")):
        benchmark = json.loads(file.read_text())
        case, _, variant = benchmark["full_id"].rpartition("/")
        found[case, variant] = json.loads(file.with_name("estimates.json").read_text())["median"]["point_estimate"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--criterion", type=Path, help="read this folder of criterion's and run nothing")
    add_common_options(parser, "simd")
    arguments = parser.parse_args()
    folder = arguments.criterion
    if folder is None:
        if rust("simd_benchmark", "--no-default-features"):
            return 1
        folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "criterion"
    found = medians(folder)
    if not found:
        sys.exit(f"{folder}: criterion has left nothing there")
    report = Report("simd", arguments.output_dir)
    report.text()
    for (case, variant), median in found.items():
        if case.startswith("in_cache/"):
            speed = CACHED / median
            wanted = IN_CACHE.get(variant)
            what = f"{case} {variant}: billion weights a second"
            if wanted is None:
                report.text(f"       {what}: {speed:.2f}")
            else:
                report.target(what, speed, f">= {wanted}", speed >= wanted)
    for case in sorted({case for case, _ in found if case.startswith("memory/")}):
        for kernel, plain, wanted in OF_MEMORY:
            if not {(case, kernel), (case, plain)} <= found.keys():
                continue  # a run of some of the cases
            share = found[case, plain] / found[case, kernel]
            report.target(f"{case} {kernel}: share of {plain}", share, f">= {wanted}", share >= wanted)
    speedups: dict[str, list[float]] = {}
    for (case, variant), median in found.items():
        scalar = found.get((case, "scalar"))
        if scalar is None or variant == "scalar":
            continue
        report.text(f"{case:<48} {variant:<10} {median:>14.0f} ns {scalar / median:>8.2f} times scalar")
        speedups.setdefault(variant, []).append(scalar / median)
    if not speedups:
        sys.exit(f"{folder}: no case with a scalar variant to compare with")
    for variant, wanted in TARGETS.items():
        if ratios := speedups.get(variant):
            ratios.sort()
            median = ratios[len(ratios) // 2]
            report.target(f"{variant}: median speedup over scalar", median, f"> {wanted:.0f}", median >= wanted)
    return report.finish(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
