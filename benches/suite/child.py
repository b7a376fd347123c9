"""Runs one case and prints what it took, as JSON. Imports and the start of the interpreter are outside the clock."""

import json
import shutil
import sys
import time
from pathlib import Path


def peak_memory() -> int:
    """The peak of this process's resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def arrow_quant(case: dict) -> dict:
    import arrow_quant

    before = peak_memory()
    started = time.perf_counter()
    report = arrow_quant.quantize_model(
        case["path"],
        case["output"],
        bits=case["bits"],
        method=case["method"],
        threads=case["threads"],
        batch=case["batch"],
        progress=False,
    )
    seconds = time.perf_counter() - started
    peak = peak_memory()
    names = ("bits_per_weight", "sqnr_db", "cosine", "bytes_in", "bytes_out")
    return {"seconds": seconds, "memory_before": before, "peak_memory": peak, **{name: report.summary[name] for name in names}}


def numpy(case: dict) -> dict:
    import numpy_baseline

    before = peak_memory()
    started = time.perf_counter()
    saved = numpy_baseline.quantize_model(case["path"], case["output"], case["bits"], case["threads"])
    seconds = time.perf_counter() - started
    peak = peak_memory()
    started = time.perf_counter()
    quality = numpy_baseline.quality(case["path"], saved, case["bits"])
    report_seconds = time.perf_counter() - started
    return {"seconds": seconds, "report_seconds": report_seconds, "memory_before": before, "peak_memory": peak, **quality}


if __name__ == "__main__":
    case = json.loads(sys.argv[1])
    shutil.rmtree(case["output"], ignore_errors=True)
    result = {"arrow-quant": arrow_quant, "numpy": numpy}[case["engine"]](case)
    shutil.rmtree(case["output"], ignore_errors=True)
    print(json.dumps(result))
