"""Peak resident memory: ArrowQuant streaming and batch, next to a NumPy program, a fresh process per case.

    python benches/memory_benchmark.py --model-size 100M --generate-charts
"""

import argparse
import sys

from suite import Case, Report, add_common_options, too_large
from suite.report import cores, ensure_package


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all sizes and all widths")
    parser.add_argument("--model-size", choices=("100M", "600M", "7B"), action="append", help="may be repeated (default 100M)")
    parser.add_argument("--bit-width", type=int, choices=(2, 3, 4, 8), action="append", help="may be repeated (default 4)")
    parser.add_argument("--skip-python", action="store_true", help="without the NumPy baseline")
    parser.add_argument("--streaming-comparison", action="store_true", help="streaming against batch alone")
    parser.add_argument("--generate-charts", action="store_true", help="draw charts, with matplotlib")
    add_common_options(parser, "memory")
    arguments = parser.parse_args()
    ensure_package()
    sizes = ["100M", "600M", "7B"] if arguments.all else arguments.model_size or ["100M"]
    widths = [2, 3, 4, 8] if arguments.all else arguments.bit_width or [4]

    report = Report("memory", arguments.output_dir)
    report.section("Streaming and batch")
    streaming = report.run(Case("mem-svb", threads=cores()), 1)
    batch = report.run(Case("mem-svb", threads=cores(), batch=True), 1)
    share = 100 * streaming.peak_memory / batch.peak_memory
    report.target("mem-svb: streaming's share of batch's peak, %", share, "< 50", share < 50)

    ratios: dict[str, dict[str, float]] = {}
    if not arguments.streaming_comparison:
        report.section("Models")
        for size in sizes:
            if why := too_large(size):
                report.text(f"SKIPPED {size}: {why}")
                continue
            for bits in widths:
                ours = report.run(Case(size, bits=bits, threads=cores()), 1)
                if arguments.skip_python:
                    continue
                baseline = report.run(Case(size, "numpy", bits=bits, threads=cores()), 1)
                share = 100 * ours.peak_memory / baseline.peak_memory
                ratios.setdefault(size, {})[f"{bits} bits"] = share
                report.target(
                    f"{size}, {bits} bits: share of the NumPy program's peak, %",
                    share,
                    "< 50",
                    share < 50,
                    "the program, its plans and a window per thread take the same for every model: small ones show it",
                )
    if arguments.generate_charts:
        peaks: dict[str, dict[str, float]] = {}
        for result in report.results:
            group = f"{result.case.model}, {result.case.bits} bits"
            mode = "batch" if result.case.batch else "streaming"
            series = f"arrow-quant {mode}" if result.case.engine == "arrow-quant" else "numpy"
            peaks.setdefault(group, {})[series] = result.peak_memory / 1e6
        report.bars("memory_comparison.png", "Peak resident memory of the process", "MB", peaks)
        if ratios:
            report.bars("memory_ratio.png", "Share of the NumPy program's peak", "percent", ratios)
    return report.finish(arguments.check)


if __name__ == "__main__":
    sys.exit(main())
