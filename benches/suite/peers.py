"""Other quantizers, each a function of a matrix: what it decodes to, the bits that it stores, and the seconds it took.

On one thread, groups of 64, in memory. What a package needs is imported when it is used.
"""

import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .numpy_baseline import tensors, widen

GROUP = 64
# The matrix of the workload dream-block that the speed benchmark hands to each.
MATRIX = "q_proj"


def timed(quantize, *arguments):
    started = time.perf_counter()
    result = quantize(*arguments)
    return result, time.perf_counter() - started


def numpy_minmax(bits):
    """The range of each group of 64, scale and lowest value stored as f16."""

    def quantize(w):
        groups = w.reshape(-1, GROUP)
        low = np.minimum(groups.min(1, keepdims=True), 0).astype(np.float16)
        high = np.maximum(groups.max(1, keepdims=True), 0)
        scale = np.maximum((high - low.astype(np.float32)) / (2**bits - 1), 6e-8).astype(np.float16)
        wide_low, wide_scale = low.astype(np.float32), scale.astype(np.float32)
        codes = np.clip(np.rint((groups - wide_low) / wide_scale), 0, 2**bits - 1).astype(np.uint8)
        return codes, wide_scale, wide_low

    def run(w):
        (codes, scale, low), seconds = timed(quantize, w)
        return (codes * scale + low).reshape(w.shape), w.size * (bits + 32 / GROUP), seconds

    return run


def hqq_algorithm(bits):
    """The published solver of half-quadratic quantization: the zero point refined for an |x|^0.7 error, 20 iterations.

    Groups of 64; scale and zero point stored as f16. Written from the description of the algorithm.
    """
    power, beta, iterations = 0.7, 10.0, 20

    def quantize(w):
        groups = w.reshape(-1, GROUP)
        low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
        most = np.float32(2**bits - 1)
        inverse = np.minimum(most / np.maximum(high - low, 1e-4), 2e4)
        zero = -low * inverse
        best = np.inf
        for _ in range(iterations):
            codes = np.clip(np.rint(groups * inverse + zero), 0, most)
            rest = groups - (codes - zero) / inverse
            size = np.abs(rest)
            error = size.mean()
            if error >= best:
                break
            best = error
            with np.errstate(divide="ignore"):
                shrunk = np.sign(rest) * np.maximum(size - size ** (power - 1) / beta, 0)
            zero = (codes - (groups - shrunk) * inverse).mean(1, keepdims=True)
        scale, zero = (1 / inverse).astype(np.float16), zero.astype(np.float16)
        codes = np.clip(np.rint(groups * inverse + zero), 0, most).astype(np.uint8)
        return codes, scale.astype(np.float32), zero.astype(np.float32)

    def run(w):
        (codes, scale, zero), seconds = timed(quantize, w)
        return ((codes - zero) * scale).reshape(w.shape), w.size * (bits + 32 / GROUP), seconds

    return run


def gguf_type(name):
    """A type of llama.cpp, by the NumPy implementation of its own package."""
    import gguf

    kind = getattr(gguf.GGMLQuantizationType, name)

    def run(w):
        packed, seconds = timed(gguf.quants.quantize, w, kind)
        return gguf.quants.dequantize(packed, kind), packed.nbytes * 8, seconds

    return run


def hqq_solver(bits):
    """The package hqq with its solver, groups of 64, scale and zero point counted as the f16 that it stores."""
    import torch
    from hqq.core.quantize import Quantizer

    torch.set_num_threads(1)

    def quantize(w):
        options = {"nbits": bits, "group_size": GROUP, "optimize": True, "round_zero": bits == 4, "axis": 1}
        return Quantizer.quantize(w, **options, bitpack=False, compute_dtype=torch.float32, device="cpu")

    def run(w):
        (packed, meta), seconds = timed(quantize, torch.from_numpy(w))
        return Quantizer.dequantize(packed, meta).numpy().reshape(w.shape), w.size * (bits + 32 / GROUP), seconds

    return run


def quanto(bits):
    """The package optimum-quanto, groups of 64, scale and shift counted as f16."""
    import torch
    from optimum.quanto import MaxOptimizer, qint2, qint4, quantize_weight

    torch.set_num_threads(1)
    kind = {2: qint2, 4: qint4}[bits]

    def quantize(w):
        scale, shift = MaxOptimizer()(w, kind, axis=0, group_size=GROUP)
        return quantize_weight(w, qtype=kind, axis=0, scale=scale, shift=shift, group_size=GROUP, optimized=False)

    def run(w):
        packed, seconds = timed(quantize, torch.from_numpy(w))
        return packed.dequantize().numpy(), w.size * (bits + 32 / GROUP), seconds

    return run


def torchao(bits):
    """The affine quantization of the package torchao, groups of 64, scale and zero point counted as f16."""
    import torch
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        dequantize_affine,
        quantize_affine,
    )

    torch.set_num_threads(1)
    block, range_ = (1, GROUP), {"quant_min": 0, "quant_max": 2**bits - 1}

    def quantize(w):
        scale, zero = choose_qparams_affine(w, MappingType.ASYMMETRIC, block, torch.uint8, **range_)
        return quantize_affine(w, block, scale, zero, torch.uint8, **range_), scale, zero

    def run(w):
        (codes, scale, zero), seconds = timed(quantize, torch.from_numpy(w))
        decoded = dequantize_affine(codes, block, scale, zero, torch.uint8, **range_)
        return decoded.numpy(), w.size * (bits + 32 / GROUP), seconds

    return run


# The package that is needed (none: NumPy; "no hqq": where hqq is missing), label, bits, maker of the method.
PEERS = [
    *((None, "NumPy min-max", bits, numpy_minmax) for bits in (2, 3, 4, 8)),
    *(("no hqq", "HQQ algorithm, NumPy", bits, hqq_algorithm) for bits in (2, 3, 4)),
    *(
        ("gguf", f"GGUF {kind}", bits, lambda _, kind=kind: gguf_type(kind))
        for kind, bits in (("Q4_0", 4), ("Q4_1", 4), ("Q8_0", 8))
    ),
    *(("hqq", "HQQ", bits, hqq_solver) for bits in (2, 3, 4)),
    *(("optimum.quanto", "quanto", bits, quanto) for bits in (2, 4)),
    *(("torchao", "torchao", bits, torchao) for bits in (2, 4)),
]


def installed(package):
    """Returns True if an entry of PEERS has its packages; an algorithm that stands in for a package is left out beside it."""
    if package is None:
        return True
    if package.startswith("no "):
        return importlib.util.find_spec(package.removeprefix("no ")) is None
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def measure_peers(model: Path, bits: int) -> Iterator[dict]:
    """Measures each quantizer, this library among them, on one matrix of the model."""
    import arrow_quant

    name, file, shape, begin, length = next(entry for entry in tensors(str(model)) if MATRIX in entry[0])
    weights = widen(np.fromfile(file, np.uint16, length // 2, offset=begin)).reshape(shape)

    def ours(method):
        def run(w):
            quantized, seconds = timed(arrow_quant.quantize, w, bits, 32, method)
            return arrow_quant.dequantize(quantized).to_numpy(), quantized.nbytes * 8, seconds

        return run

    runs = [(f"arrow-quant {method}, all threads", ours(method)) for method in ("minmax", "search")]
    runs += [(label, make(width)) for package, label, width, make in PEERS if width == bits and installed(package)]
    for label, run in runs:
        try:
            run(weights[:64])
        except (ImportError, RuntimeError) as error:
            # Some packages compile a part of themselves when they are first used.
            yield {"method": label, "bits": bits, "left_out": str(error).splitlines()[0]}
            continue
        decoded, stored, seconds = run(weights)
        error = weights.astype(np.float64) - decoded
        yield {
            "method": label,
            "bits": bits,
            "parameters_per_second": weights.size / seconds,
            "bits_per_weight": stored / weights.size,
            "sqnr_db": float(10 * np.log10(np.sum(np.square(weights, dtype=np.float64)) / np.sum(error**2))),
        }
