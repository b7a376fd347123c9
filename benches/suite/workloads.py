"""The models that the benchmarks quantize: the same as those of the Rust benchmarks, made by the same program."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / ".benchmarks" / "data"

# Parameters of each model, to tell what does not fit before it is made.
SIZES = {
    "100M": 190_046_208,
    "600M": 505_053_184,
    "7B": 6_885_605_376,
    "dream-7b": 7_615_616_512,
    "dream-block": 233_053_184,
    "par-100M": 104_857_600,
    "par-600M": 629_145_600,
    "mem-svb": 209_715_200,
}


def too_large(name: str, batch: bool = False) -> str | None:
    """Returns the reason why the model called `name` cannot be made and quantized here, or None. `batch` holds it in memory."""
    if batch:
        wanted, available = int(3.2 * SIZES[name]), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
        if wanted > available:
            return f"needs {wanted / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB are free"
    wanted = 0 if (DATA / name / "complete").exists() else 2 * SIZES[name]
    # The output, at 8 bits at most, with its scales.
    wanted += int(1.1 * SIZES[name])
    DATA.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(DATA).free
    return None if free > wanted else f"needs {wanted / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free"


def make(name: str) -> Path:
    """The folder of the model called `name`, made when it is not there yet."""
    folder = DATA / name
    if not (folder / "complete").exists():
        command = ["cargo", "run", "--release", "--locked", "--quiet", "--example", "make_workload", name, str(DATA)]
        subprocess.run(command, cwd=ROOT, check=True)
    return folder
