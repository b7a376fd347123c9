"""Other quantizers on the same weights, in memory: what `--peers` adds where PyTorch is installed."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .numpy_baseline import is_kept, tensors

# Groups as the peers' users have them.
GROUP = 128
RUNS = 3


def measure_peers(model: Path, bits: int) -> Iterator[str]:
    """One line per quantizer: parameters per second and dB, over the matrices of the model."""
    try:
        import torch
    except ImportError:
        yield "PyTorch is not installed: there is nothing to compare with"
        return
    weights = []
    for name, file, shape, begin, length in tensors(str(model)):
        if not is_kept(name, shape):
            stored = np.fromfile(file, np.int16, length // 2, offset=begin).reshape(-1, shape[-1])
            weights.append(torch.from_numpy(stored).view(torch.bfloat16))
    if bits in (2, 4, 8):
        yield _measure(f"PyTorch {torch.__version__}, round to nearest, groups of {GROUP}, packed", weights, _round(torch, bits))
    else:
        yield f"PyTorch, round to nearest: no packing of {bits} bits"


def _measure(name: str, weights: list, quantizer: tuple[Callable, Callable]) -> str:
    quantize, dequantize = quantizer
    quantize(weights[0])
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        quantized = [quantize(weight) for weight in weights]
        seconds.append(time.perf_counter() - started)
    signal = noise = 0.0
    for weight, value in zip(weights, quantized, strict=True):
        exact = weight.double()
        noise += float(((exact - dequantize(value, weight.shape).double()) ** 2).sum())
        signal += float((exact**2).sum())
    count = sum(weight.numel() for weight in weights)
    rate = count / statistics.median(seconds) / 1e6
    return f"{name:<64} {rate:>8.1f} M/s {10 * np.log10(signal / noise):>7.2f} dB"


def _round(torch, bits: int) -> tuple[Callable, Callable]:
    """Round to nearest with an f16 scale and a zero point per group, as a few lines of PyTorch do it."""
    most = 2**bits - 1
    per_byte = 8 // bits
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8)

    def quantize(weight):
        groups = weight.float().reshape(-1, GROUP)
        low, high = torch.aminmax(groups, dim=1, keepdim=True)
        scale = ((high - low) / most).clamp_min(1e-8)
        zero = torch.round(-low / scale)
        codes = torch.clamp(torch.round(groups / scale) + zero, 0, most).to(torch.uint8)
        packed = (codes.reshape(-1, per_byte) << shifts).sum(dim=1, dtype=torch.uint8)
        return packed, scale.half(), zero.half()

    def dequantize(value, shape):
        packed, scale, zero = value
        codes = (packed[:, None] >> shifts) & most
        return ((codes.reshape(-1, GROUP).float() - zero.float()) * scale.float()).reshape(shape)

    return quantize, dequantize
