"""The speed benchmarks: the Rust one, then the Python one."""

import argparse
import sys

from suite.runner import python, rust


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all sizes and all widths")
    parser.add_argument("--rust-only", action="store_true", help="without the Python program")
    parser.add_argument("--python-only", action="store_true", help="without the Rust program")
    parser.add_argument("--model-size", choices=("100M", "600M", "7B"), help="for the Python program")
    parser.add_argument("--generate-charts", action="store_true", help="draw charts, with matplotlib")
    arguments = parser.parse_args()
    failed = 0
    if not arguments.python_only:
        failed |= rust("speed_benchmark")
    if not arguments.rust_only:
        options = ["--all"] * arguments.all + ["--generate-charts"] * arguments.generate_charts
        if arguments.model_size:
            options += ["--model-size", arguments.model_size]
        failed |= python("speed_benchmark.py", *options)
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
