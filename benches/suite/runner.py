"""The runners: the Rust benchmark, the Python benchmark, or both."""

import argparse
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


def both(description: str, name: str) -> int:
    """The Rust benchmark `name`, then the Python one, which takes every option but two; gives 1 where one failed."""
    epilog = f"Every other option is handed to {name}.py, whose --help lists them: --all, --model-size, --generate-charts ..."
    parser = argparse.ArgumentParser(description=description, epilog=epilog)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--rust-only", action="store_true", help="without the Python program")
    only.add_argument("--python-only", action="store_true", help="without the Rust program")
    arguments, options = parser.parse_known_args()
    if arguments.rust_only and options:
        parser.error(f"{options[0]} is for the Python program")
    failed = False
    if not arguments.python_only:
        failed |= rust(name) != 0
    if not arguments.rust_only:
        failed |= python(f"{name}.py", *options) != 0
    return int(failed)
