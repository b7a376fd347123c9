"""Threads: time, memory, speedup and efficiency, file to file; streaming against batch.

    python benches/parallel_benchmark.py --model-size 100M --cores 1,2,4
"""

import argparse
import sys

from suite import Case, Report, add_common_options, run_case, too_large
from suite.report import cores, ensure_package

# The models of equal layers; at 7B, the one that there is.
MODELS = {"100M": "par-100M", "600M": "par-600M", "7B": "7B"}


def thread_counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if not all(count > 0 for count in counts):
        raise argparse.ArgumentTypeError("threads are 1 and more")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all sizes, and streaming against batch")
    usual = [count for count in (1, 2, 4, 8, 16) if count <= cores()]
    parser.add_argument("--cores", type=thread_counts, default=usual, help="threads, as 1,2,4 (default: up to the cores)")
    parser.add_argument("--model-size", choices=MODELS, action="append", help="may be repeated (default 100M)")
    parser.add_argument("--streaming-comparison", action="store_true", help="streaming against batch as well")
    parser.add_argument("--num-runs", type=int, default=3, help="runs of each case, after one to warm up (default 3)")
    parser.add_argument("--generate-charts", action="store_true", help="draw a chart, with matplotlib")
    add_common_options(parser, "parallel")
    arguments = parser.parse_args()
    ensure_package()
    sizes = list(MODELS) if arguments.all else arguments.model_size or ["100M"]

    report = Report("parallel", arguments.output_dir)
    speedups: dict[str, dict[str, float]] = {}
    for size in sizes:
        model = MODELS[size]
        if why := too_large(model):
            report.text(f"SKIPPED {size}: {why}")
            continue
        for method in ("minmax", "search"):
            report.section(f"Threads, {model}, {method}")
            first = None
            for threads in arguments.cores:
                result = report.add(run_case(Case(model, threads=threads, method=method), arguments.num_runs))
                first = first or result
                speedup = first.median / result.median * first.case.threads
                report.text(f"{'':<52} speedup {speedup:.2f}, efficiency {100 * speedup / threads:.0f} %")
                speedups.setdefault(f"{model}, {method}", {})[f"{threads} threads"] = speedup
            most = max(arguments.cores)
            if most > 1 and 1 in arguments.cores:
                wanted = 4.0 if most >= 8 else 0.8 * min(most, cores())
                speedup = speedups[f"{model}, {method}"][f"{most} threads"]
                report.target(
                    f"{model}, {method}: speedup on {most} threads",
                    speedup,
                    f"> {wanted:.1f}",
                    speedup > wanted,
                    "reading and writing do not get faster with threads",
                )
        if arguments.streaming_comparison or arguments.all:
            report.section(f"Streaming and batch, {model}")
            threads = max(arguments.cores)
            for batch in (False, True):
                report.add(run_case(Case(model, threads=threads, batch=batch), arguments.num_runs))
    if arguments.generate_charts:
        report.bars("parallel_speedup.png", "Speedup over one thread, file to file", "times", speedups)
    return report.finish(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
