"""File to file: how long ArrowQuant takes to quantize a model, next to a NumPy program that does the same.

    python benches/speed_benchmark.py --model-size 100M --generate-charts
"""

import argparse
import sys

from suite import Case, Report, add_common_options, make, too_large
from suite.report import cores, ensure_package, positive

LIMITS = {"100M": 120.0, "600M": 600.0, "7B": 300.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="all sizes and all widths")
    parser.add_argument("--model-size", choices=LIMITS, action="append", help="may be repeated (default 100M)")
    parser.add_argument("--bit-width", type=int, choices=(2, 3, 4, 8), action="append", help="may be repeated (default 4)")
    parser.add_argument("--skip-python", action="store_true", help="without the NumPy baseline")
    parser.add_argument("--num-runs", type=positive, default=3, help="runs of each case, after one to warm up where there are several (default 3)")
    parser.add_argument("--generate-charts", action="store_true", help="draw charts, with matplotlib")
    parser.add_argument("--peers", action="store_true", help="also NumPy, GGUF, HQQ, quanto and torchao, where they are installed, in memory")
    add_common_options(parser, "speed")
    arguments = parser.parse_args()
    ensure_package()
    sizes = list(LIMITS) if arguments.all else arguments.model_size or ["100M"]
    widths = [2, 3, 4, 8] if arguments.all else arguments.bit_width or [4]

    report = Report("speed", arguments.output_dir)
    report.section(f"File to file, {cores()} threads")
    speedups: dict[str, dict[str, float]] = {}
    for size in sizes:
        if why := too_large(size):
            report.text(f"SKIPPED {size}: {why}")
            continue
        for bits in widths:
            common = {"model": size, "bits": bits, "threads": cores()}
            ours = report.run(Case(**common), arguments.num_runs)
            search = report.run(Case(**common, method="search"), arguments.num_runs)
            for result in (ours, search):
                name = f"{size}, {bits} bits, {result.case.method}: seconds"
                report.target(name, result.median, f"< {LIMITS[size]:.0f}", result.median < LIMITS[size])
            if arguments.skip_python:
                continue
            baseline = report.run(Case(**common, engine="numpy"), arguments.num_runs)
            with_report = baseline.median + baseline.more["report_seconds"]
            times = with_report / ours.median
            report.text(f"{'':<52} {with_report:>8.2f} s with the report that the engine makes as well: {times:.1f} times ours")
            ratio = baseline.median / ours.median
            speedups.setdefault(size, {})[f"{bits} bits"] = ratio
            report.target(
                f"{size}, {bits} bits: times as fast as the NumPy program",
                ratio,
                "5 to 10",
                ratio >= 5,
                "both read and write the same files; the less there is to compute, the more the disk decides",
            )
    if arguments.peers:
        peers(report, widths)
    if arguments.generate_charts:
        charts(report, speedups)
    return report.finish(arguments.check)


def peers(report: Report, widths: list[int]) -> None:
    """Every quantizer that is installed on one matrix of a Dream-7B block, in memory."""
    from suite.peers import measure_peers

    report.text()
    if why := too_large("dream-block"):
        report.text(f"SKIPPED other quantizers: {why}")
        return
    report.text("Other quantizers, in memory, on one thread where nothing else is said, one matrix of dream-block")
    for bits in widths:
        for row in measure_peers(make("dream-block"), bits):
            report.peers.append(row)
            if "left_out" in row:
                report.text(f"{row['method']:<40} {bits} bits left out: {row['left_out']}")
                continue
            rate = row["parameters_per_second"] / 1e6
            report.text(
                f"{row['method']:<40} {bits} bits {rate:>9.1f} M/s {row['sqnr_db']:>7.2f} dB {row['bits_per_weight']:>6.3f} bits"
            )


def charts(report: Report, speedups: dict[str, dict[str, float]]) -> None:
    seconds: dict[str, dict[str, float]] = {}
    throughput: dict[str, dict[str, float]] = {}
    for result in report.results:
        group = f"{result.case.model}, {result.case.bits} bits"
        series = f"{result.case.engine} {result.case.method}"
        seconds.setdefault(group, {})[series] = result.median
        throughput.setdefault(group, {})[series] = result.parameters_per_second / 1e6
    report.bars("speed_comparison.png", "File to file", "seconds (median)", seconds)
    report.bars("throughput_comparison.png", "File to file", "million parameters per second", throughput)
    if speedups:
        report.bars("speedup_comparison.png", "Times as fast as the NumPy program, minmax", "times", speedups)


if __name__ == "__main__":
    sys.exit(main())
