"""Cases: one way to quantize one model, each run in a process of its own, so that its peak memory is its own."""

import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .workloads import DATA, SIZES, make

CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True)
class Case:
    """A case to run. `engine` is arrow-quant or numpy; `batch` loads the whole model first."""

    model: str
    engine: str = "arrow-quant"
    bits: int = 4
    method: str = "minmax"
    threads: int = 1
    batch: bool = False

    @property
    def name(self) -> str:
        mode = ", batch" if self.batch else ""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.model}, {self.bits} bits, {self.engine} {self.method}{mode}, {threads}"


class CaseError(Exception):
    """The engine failed; there is no time for a run that failed."""


@dataclass
class Result:
    """The cost of a case: seconds of each run, and of the median run the memory and the quality."""

    case: Case
    seconds: list[float]
    peak_memory: int
    memory_before: int
    bits_per_weight: float
    sqnr_db: float
    cosine: float
    bytes_in: int
    bytes_out: int
    # What a program adds of its own to the JSON file.
    more: dict = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half of the range of the runs, by their median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median

    @property
    def parameters_per_second(self) -> float:
        return SIZES[self.case.model] / self.median

    def as_json(self) -> dict:
        keys = ("peak_memory", "memory_before", "bits_per_weight", "sqnr_db", "cosine", "bytes_in", "bytes_out")
        return {
            "case": self.case.name,
            **asdict(self.case),
            "seconds": self.median,
            "spread": self.spread,
            "runs": self.seconds,
            "parameters_per_second": self.parameters_per_second,
            "bytes_per_second": self.bytes_in / self.median,
            **{key: getattr(self, key) for key in keys},
            **self.more,
        }

    def line(self) -> str:
        return (
            f"{self.case.name:<52} {self.median:>8.2f} s ±{100 * self.spread:>3.0f} % "
            f"{self.parameters_per_second / 1e6:>8.1f} M/s {self.bytes_in / self.median / 1e6:>8.1f} MB/s "
            f"{self.peak_memory / 1e6:>8.1f} MB (before {self.memory_before / 1e6:>5.1f}) "
            f"{self.sqnr_db:>7.2f} dB {self.bits_per_weight:>6.3f} bits"
        )


LINE_HEAD = (
    f"{'case':<52} {'median':>10} {'spread':>6} {'parameters':>12} {'input':>13} {'peak memory':>24} {'SQNR':>10} {'stored':>11}"
)


def run_case(case: Case, runs: int = 3) -> Result:
    """Runs the case, once more to warm up where there is more than one run."""
    warm_up = int(runs > 1)
    model = make(case.model)
    measured = [_child(case, model) for _ in range(runs + warm_up)][warm_up:]
    middle = sorted(measured, key=lambda run: run["seconds"])[len(measured) // 2]
    reports = [run["report_seconds"] for run in measured if "report_seconds" in run]
    fields = ("memory_before", "bits_per_weight", "sqnr_db", "cosine", "bytes_in", "bytes_out")
    return Result(
        case=case,
        seconds=[run["seconds"] for run in measured],
        # The peak of a case is the highest that was seen.
        peak_memory=max(run["peak_memory"] for run in measured),
        **{name: middle[name] for name in fields},
        more={"report_seconds": statistics.median(reports)} if reports else {},
    )


def _child(case: Case, model: Path) -> dict:
    output = DATA.parent / "output"
    command = [sys.executable, str(CHILD), json.dumps({**asdict(case), "path": str(model), "output": str(output)})]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CaseError(f"{case.name}: {lines[-1]}")
    return json.loads(done.stdout)
