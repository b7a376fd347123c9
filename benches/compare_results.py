"""Compares two results of the benchmarks: JSON files of the Python programs, or folders of criterion.

    python benches/compare_results.py before.json after.json --threshold 10

Exit code 1 when something took longer, or more memory, by more than the threshold, or is missing.
"""

import argparse
import json
import sys
from pathlib import Path

# What is compared of each case; less is better.
FIGURES = {"seconds": "s", "peak_memory": "bytes"}


def read(path: Path) -> dict[str, float]:
    """Every figure by its name."""
    if path.is_dir():
        figures = {}
        for file in sorted(path.glob("**/new/estimates.json")):
            name = file.relative_to(path).parent.parent.as_posix()
            figures[f"{name} (ns)"] = json.loads(file.read_text())["median"]["point_estimate"]
        if not figures:
            sys.exit(f"{path}: there are no estimates of criterion in it")
        return figures
    try:
        results = json.loads(path.read_text())["results"]
        return {
            f"{result['case']} ({unit})": float(result[key])
            for result in results
            for key, unit in FIGURES.items()
            # The time of a single run says nothing.
            if key != "seconds" or len(result["runs"]) >= 3
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path}: is not a result of these benchmarks: {error!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--threshold", type=float, default=10.0, metavar="PERCENT", help="changes up to this are noise (default 10)")
    arguments = parser.parse_args()
    before, after = read(arguments.before), read(arguments.after)
    common = [name for name in before if name in after]
    if not common:
        sys.exit("the two results have no case in common")
    width = max(map(len, common))
    regressions = 0
    print(f"{'case':<{width}} {'before':>14} {'after':>14} {'change':>9}")
    for name in common:
        if not (before[name] > 0 and after[name] > 0):
            sys.exit(f"{name}: {before[name]} and {after[name]} cannot be compared")
        change = 100 * (after[name] / before[name] - 1)
        word = "REGRESSION" if change > arguments.threshold else "better" if change < -arguments.threshold else ""
        regressions += change > arguments.threshold
        print(f"{name:<{width}} {before[name]:>14.6g} {after[name]:>14.6g} {change:>+8.1f}% {word}".rstrip())
    for which, names in (("before", before.keys() - after.keys()), ("after", after.keys() - before.keys())):
        for name in sorted(names):
            print(f"only {which}: {name}")
    print(f"{regressions} of {len(common)} figures regressed by more than {arguments.threshold:g} %")
    return int(regressions > 0 or bool(before.keys() - after.keys()))


if __name__ == "__main__":
    sys.exit(main())
