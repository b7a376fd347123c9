"""What the runners do: the Rust benchmark, the Python benchmark, or both, with the options passed on."""

import subprocess
import sys

from .workloads import ROOT


def rust(bench: str, *options: str) -> int:
    """Runs a Rust benchmark; gives its exit code."""
    command = ["cargo", "bench", "--locked", "--bench", bench, *options]
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=ROOT).returncode


def python(program: str, *options: str) -> int:
    """Runs a Python benchmark; gives its exit code."""
    command = [sys.executable, str(ROOT / "benches" / program), *options]
    print("$", " ".join(command), flush=True)
    return subprocess.run(command, cwd=ROOT).returncode
