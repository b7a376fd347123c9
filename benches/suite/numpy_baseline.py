"""The baseline: the same quantization as a NumPy program.

It reads the same safetensors files, chooses the same tensors, and makes the same bits: groups of 32 along the row, a
range that includes zero, one byte per group for the scale (an unsigned float of 4 and 4 bits, relative to the row's
f32), one byte for the zero point, codes packed densely. Rows are worked on in blocks that stay in the cache, on as many
threads as asked for, in f32, in place where NumPy can. Each tensor is written as soon as it is done, in one file, and
nothing of it is kept. It makes no report, does not ask the system to write the file to the disk, and does not read it
back, all of which the engine's time includes: its figures of quality are computed after the clock has stopped.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np

GROUP = 32
# Elements of a block: a few megabytes with everything that is computed from it.
BLOCK = 1 << 18
# What the engine leaves as it is by default, of the tensors that the workloads have.
KEPT = ("embed_tokens", "lm_head", "norm")


def tensors(path: str):
    """Name, file, shape and byte range of each tensor, from the headers."""
    for file in sorted(Path(path).glob("*.safetensors")):
        with file.open("rb") as source:
            length = int.from_bytes(source.read(8), "little")
            header = json.loads(source.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            yield name, file, entry["shape"], 8 + length + begin, end - begin


def is_kept(name: str, shape: list[int]) -> bool:
    return len(shape) < 2 or any(part in name for part in KEPT)


def widen(stored: np.ndarray) -> np.ndarray:
    """bf16, as 16-bit integers, to f32."""
    wide = stored.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def encode_scales(scales: np.ndarray, row_scale: np.ndarray) -> np.ndarray:
    """The scales as bytes: 16 steps per power of two, 240 is the row's scale; rounded up, so that nothing is clipped."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mantissa, exponent = np.frexp(scales / row_scale)
    # The ratio is (1 + steps / 16) * 2^(exponent - 1).
    steps = np.ceil((2 * mantissa - 1) * 16)
    code = (exponent - 1 + 15) * 16 + steps
    return np.clip(np.nan_to_num(code), 0, 255).astype(np.uint8)


DECODED = np.array([(1 + c % 16 / 16) * 2.0 ** (c // 16 - 15) for c in range(256)], np.float32)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of whole bytes' worth per row, least significant bit first."""
    if bits == 8:
        return codes
    if bits == 4:
        return codes[:, 0::2] | codes[:, 1::2] << 4
    if bits == 2:
        return codes[:, 0::4] | codes[:, 1::4] << 2 | codes[:, 2::4] << 4 | codes[:, 3::4] << 6
    eight = codes.reshape(len(codes), -1, 8).astype(np.uint32)
    eight <<= np.arange(0, 24, 3, dtype=np.uint32)
    joined = np.bitwise_or.reduce(eight, axis=2)
    return np.ascontiguousarray(joined).view(np.uint8).reshape(*joined.shape, 4)[:, :, :3].reshape(len(codes), -1)


def quantize_rows(stored: np.ndarray, bits: int) -> tuple[np.ndarray, ...]:
    """Row scales, codes, scales and zero points of a block of rows."""
    weights = widen(stored)
    groups = weights.reshape(len(weights), -1, GROUP)
    low = np.minimum(groups.min(axis=2), 0)
    scale = np.maximum(groups.max(axis=2), 0)
    scale -= low
    most = 2**bits - 1
    scale /= most
    row_scale = scale.max(axis=1)
    scale_codes = encode_scales(scale, row_scale[:, None])
    scale = DECODED[scale_codes] * row_scale[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.where(scale > 0, 1 / scale, 0)
        zero_codes = np.rint(np.clip(-low * inverse / most, 0, 1) * 255).astype(np.uint8)
    zero = zero_codes * np.float32(most / 255)
    groups *= inverse[:, :, None]
    groups += zero[:, :, None]
    np.rint(groups, out=groups)
    np.clip(groups, 0, most, out=groups)
    return row_scale, pack(weights.astype(np.uint8), bits), scale_codes, zero_codes


def quantize_model(path: str, output: str, bits: int, threads: int) -> Path:
    """Quantizes a model into one file, array after array as `numpy.save` writes them; gives the file."""
    Path(output).mkdir(parents=True)
    target = Path(output) / "weights.npy"
    with ThreadPoolExecutor(threads) as pool, target.open("wb") as file_out:
        for name, file, shape, begin, length in tensors(path):
            stored = np.fromfile(file, np.uint16, length // 2, offset=begin).reshape(-1, shape[-1])
            if is_kept(name, shape):
                np.save(file_out, stored)
                continue
            rows = max(1, BLOCK // shape[-1])
            blocks = [stored[at : at + rows] for at in range(0, len(stored), rows)]
            parts = list(pool.map(lambda block: quantize_rows(block, bits), blocks))
            for column in zip(*parts, strict=True):
                np.save(file_out, np.concatenate(column))
    return target


def unpack(packed: np.ndarray, bits: int, length: int) -> np.ndarray:
    streams = np.unpackbits(packed, axis=1, bitorder="little")[:, : length * bits].reshape(len(packed), length, bits)
    return (streams * (1 << np.arange(bits, dtype=np.uint8))).sum(axis=2, dtype=np.uint8)


def quality(path: str, saved: Path, bits: int) -> dict:
    """The figures that stand next to the time, from what was saved."""
    with saved.open("rb") as arrays:
        return _quality(path, arrays, bits)


def _quality(path: str, arrays: BinaryIO, bits: int) -> dict:
    signal = noise = dot = decoded_signal = 0.0
    stored_bits = elements = bytes_in = bytes_out = 0
    for name, file, shape, begin, length in tensors(path):
        bytes_in += length
        if is_kept(name, shape):
            bytes_out += np.load(arrays).nbytes
            continue
        quantized = [np.load(arrays) for _ in range(4)]
        row_scale, codes, scales, zero_points = quantized
        stored = np.fromfile(file, np.uint16, length // 2, offset=begin).reshape(-1, shape[-1])
        rows = max(1, BLOCK // shape[-1])
        for at in range(0, len(stored), rows):
            part = slice(at, at + rows)
            weights = widen(stored[part]).astype(np.float64)
            scale = DECODED[scales[part]] * row_scale[part, None]
            zero = zero_points[part] * np.float32((2**bits - 1) / 255)
            decoded = unpack(codes[part], bits, shape[-1]).reshape(*scale.shape, GROUP).astype(np.float32)
            decoded = ((decoded - zero[:, :, None]) * scale[:, :, None]).reshape(weights.shape).astype(np.float64)
            signal += np.sum(weights**2)
            noise += np.sum((weights - decoded) ** 2)
            dot += np.sum(weights * decoded)
            decoded_signal += np.sum(decoded**2)
        size = sum(array.nbytes for array in quantized)
        bytes_out += size
        stored_bits += 8 * size
        elements += stored.size
    return {
        "bits_per_weight": stored_bits / elements,
        "sqnr_db": float(10 * np.log10(signal / noise)),
        "cosine": float(dot / np.sqrt(signal * decoded_signal)),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
    }
