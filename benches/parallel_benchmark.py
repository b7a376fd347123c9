"""Threads: time, memory, speedup and efficiency, file to file; streaming against batch.

    python benches/parallel_benchmark.py --model-size 100M --cores 1,2,4
"""

import argparse
import sys

from suite import Case, Report, add_common_options, too_large
from suite.report import cores, ensure_package, positive

# The models of equal layers; at 7B, the one that there is.
MODELS = {"100M": "par-100M", "600M": "par-600M", "7B": "7B"}


def thread_counts(text: str) -> list[int]:
    counts = sorted({1, *(int(part) for part in text.split(","))})
    if counts[0] < 1:
        raise argparse.ArgumentTypeError("threads are 1 and more")
    return counts


def label(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all sizes, and streaming against batch")
    usual = [count for count in (1, 2, 4, 8, 16) if count <= cores()]
    parser.add_argument("--cores", type=thread_counts, default=usual, help="threads, as 1,2,4; 1 is always measured (default: up to the cores)")
    parser.add_argument("--model-size", choices=MODELS, action="append", help="may be repeated (default 100M)")
    parser.add_argument("--streaming-comparison", action="store_true", help="streaming against batch as well")
    parser.add_argument("--num-runs", type=positive, default=3, help="runs of each case, after one to warm up where there are several (default 3)")
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
                result = report.run(Case(model, threads=threads, method=method), arguments.num_runs)
                first = first or result
                speedup = first.median / result.median
                result.more = {"speedup": speedup, "efficiency": speedup / threads}
                report.text(f"{'':<52} speedup {speedup:.2f}, efficiency {100 * speedup / threads:.0f} %")
                speedups.setdefault(f"{model}, {method}", {})[label(threads)] = speedup
            most = max(arguments.cores)
            if most > 1:
                usable = min(most, cores())
                wanted = 4.0 if usable >= 8 else 0.8 * usable
                speedup = speedups[f"{model}, {method}"][label(most)]
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
                if why := too_large(model, batch):
                    report.text(f"SKIPPED {model}, batch: {why}")
                    continue
                report.run(Case(model, threads=threads, batch=batch), arguments.num_runs)
    if arguments.generate_charts:
        report.bars("parallel_speedup.png", "Speedup over one thread, file to file", "times", speedups)
    return report.finish(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
