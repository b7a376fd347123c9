"""The output of a benchmark: a text report, a JSON file, charts, and a line per target."""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from .cases import LINE_HEAD, Case, CaseError, Result, run_case
from .workloads import ROOT


@dataclass
class Target:
    """Something that was promised: what was measured against the limit, and why it was missed where that is known."""

    name: str
    measured: float
    limit: str
    passed: bool
    explanation: str = ""

    def line(self) -> str:
        word = "PASS" if self.passed else "MISSED"
        explanation = f" ({self.explanation})" if self.explanation and not self.passed else ""
        return f"{word:<6} {self.name}: {self.measured:.3g}, target {self.limit}{explanation}"


def machine() -> dict:
    """Returns the facts that a reader needs to compare."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": cpu, "cores": cores(), "memory": memory, "system": platform.platform()}


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict:
    packages = ("arrow-quant", "numpy", "pyarrow", "torch", "hqq", "optimum-quanto", "torchao")
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def add_common_options(parser: argparse.ArgumentParser, name: str) -> None:
    """The options that every program has."""
    default = ROOT / ".benchmarks" / name
    parser.add_argument("--output-dir", type=Path, default=default, help=f"where results go (default .benchmarks/{name}/)")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")


def positive(text: str) -> int:
    """A number of runs."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


class Report:
    """Collects what a benchmark measures, prints it as it comes, and writes it at the end."""

    def __init__(self, name: str, output_dir: Path) -> None:
        self.name, self.output_dir = name, output_dir
        self.results: list[Result] = []
        self.peers: list[dict] = []
        self.targets: list[Target] = []
        self.lines: list[str] = []
        self.head = {
            "benchmark": name,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "revision": revision(),
            "machine": machine(),
            "versions": versions(),
        }
        where = self.head["machine"]
        self.text(f"{name} benchmark, {self.head['date']}, revision {self.head['revision']}")
        self.text(f"{where['cpu']}, {where['cores']} cores, {where['memory'] / 2**30:.0f} GiB, {where['system']}")
        self.text(", ".join(f"{package} {version}" for package, version in self.head["versions"].items()))

    def text(self, line: str = "") -> None:
        print(line, flush=True)
        self.lines.append(line)

    def section(self, title: str) -> None:
        self.text()
        self.text(title)
        self.text(LINE_HEAD)

    def run(self, case: Case, runs: int) -> Result:
        """Runs a case. An error of the engine ends the benchmark; what was measured before is kept."""
        try:
            result = run_case(case, runs)
        except CaseError as error:
            self.text(f"FAILED {error}")
            self.finish(check=False)
            sys.exit(1)
        self.results.append(result)
        self.text(result.line())
        return result

    def target(self, *arguments, **options) -> None:
        self.targets.append(Target(*arguments, **options))

    def finish(self, check: bool) -> int:
        """Writes the files; gives the exit code."""
        self.text()
        for target in self.targets:
            self.text(target.line())
        self.output_dir.mkdir(parents=True, exist_ok=True)
        document = {
            **self.head,
            "results": [result.as_json() for result in self.results],
            "peers": self.peers,
            "targets": [asdict(target) for target in self.targets],
        }
        stem = self.output_dir / f"{self.name}_benchmark"
        Path(f"{stem}_results.json").write_text(json.dumps(document, indent=1) + "\n")
        Path(f"{stem}_report.txt").write_text("\n".join(self.lines) + "\n")
        print(f"\n{stem}_report.txt\n{stem}_results.json")
        return int(check and not all(target.passed for target in self.targets))

    def bars(self, file: str, title: str, unit: str, groups: dict[str, dict[str, float]]) -> None:
        """A chart of bars: for each group a bar per series."""
        from matplotlib.figure import Figure

        series = list(dict.fromkeys(name for group in groups.values() for name in group))
        figure = Figure(figsize=(1.5 + 1.8 * len(groups), 4.5), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / max(len(series), 1)
        for i, name in enumerate(series):
            places = [at + (i - (len(series) - 1) / 2) * width for at, group in enumerate(groups.values()) if name in group]
            heights = [group[name] for group in groups.values() if name in group]
            bars = axes.bar(places, heights, width, label=name)
            axes.bar_label(bars, fmt="%.3g", fontsize="x-small")
        axes.set_xticks(range(len(groups)), list(groups))
        axes.set(ylabel=unit, title=title)
        axes.margins(y=0.12)
        if len(series) > 1:
            axes.legend(fontsize="small")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        figure.savefig(self.output_dir / file, dpi=120)
        print(self.output_dir / file)


def ensure_package() -> None:
    """Ends the program with a sentence where the package is not installed."""
    try:
        import arrow_quant  # noqa: F401
    except ImportError:
        sys.exit("arrow_quant is not installed: pip install . or make python")
