"""Decodes the folder that `arrow-quant quantize` writes, without arrow-quant: pyarrow reads, NumPy computes.

It is the independent oracle of the tests: written from the format alone, slow and plain on purpose.

    weights = read_quantized_folder("out/")    # {"blocks.0.attn.qkv.weight": float32 [384, 128], ...}

The folder holds `weights/part-*.parquet` (or `.arrow`). One row of a part is one row of a tensor: its name, the
tensor's dtype and shape, the row's number (`channel`), and either the quantized row (`quantized`) or the row as
stored, byte for byte (`data`).

    weight = row_scale * m(scales[g]) * (code - z)         with g = k // group_size for the k-th weight of the row
    m(c)   = (1 + (c mod 16)/16) * 2^(floor(c/16) - 15)
    z      = zero_points[g] * (2^bits - 1) / 255           or 2^(bits-1) when zero_points is null

Where `bits` is 0 the weights are entropy-coded: docs/entropy.md.
"""

import math
from pathlib import Path

import entropy_value
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMPY_TYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "F8_E8M0": ml_dtypes.float8_e8m0fnu,
}


def unpack_codes(packed, bits, length):
    """`length` unsigned numbers of `bits` bits each from a dense bit stream, least significant bit first."""
    if len(packed) != (length * bits + 7) // 8:
        raise ValueError(f"{length} codes of {bits} bits take {(length * bits + 7) // 8} bytes, not {len(packed)}")
    stream = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")[: length * bits]
    return stream.reshape(length, bits).astype(np.int64) @ (2 ** np.arange(bits))


def decode_scale(code):
    """m(c): an unsigned float of 4 exponent bits and 4 mantissa bits; every value is exact in float32."""
    return np.float32((1 + (code % 16) / 16) * 2.0 ** (code // 16 - 15))


def decode_zero_point(zero_point, bits):
    """z of an asymmetric group, in codes: 0 is the lowest code, 255 the highest."""
    max_code = 2**bits - 1
    return np.float32(zero_point * max_code) / np.float32(255)


def decode_row(quantized):
    """A quantized row (a dict of the struct's fields) to float32 weights; every operation rounds to float32."""
    if quantized["bits"] == 0:
        return entropy_value.decode(quantized)
    bits, group_size, length = quantized["bits"], quantized["group_size"], quantized["length"]
    scales, zero_points = quantized["scales"], quantized["zero_points"]
    if bits not in (2, 3, 4, 8):
        raise ValueError(f"bits are 2, 3, 4 or 8, not {bits}")
    if group_size < 1:
        raise ValueError("group_size is at least 1, not 0")
    groups = math.ceil(length / group_size)
    if len(scales) != groups:
        raise ValueError(f"{length} weights in groups of {group_size} have {groups} scales, not {len(scales)}")
    if zero_points is not None and len(zero_points) != groups:
        raise ValueError(
            f"{length} weights in groups of {group_size} have {groups} zero points, not {len(zero_points)}"
        )

    codes = unpack_codes(quantized["codes"], bits, length).astype(np.float32)
    weights = np.empty(length, np.float32)
    for group in range(groups):
        span = slice(group * group_size, min((group + 1) * group_size, length))
        scale = np.float32(quantized["row_scale"]) * decode_scale(scales[group])
        if zero_points is None:
            zero_point = np.float32(2 ** (bits - 1))
        else:
            zero_point = decode_zero_point(zero_points[group], bits)
        weights[span] = scale * (codes[span] - zero_point)
    return weights


def rows_of(shape):
    """How many rows a tensor has, and how many elements each of them."""
    if len(shape) <= 1:
        return 1, math.prod(shape)
    if len(shape) <= 3:
        return math.prod(shape[:-1]), shape[-1]
    return shape[0], math.prod(shape[1:])


def read_part(path):
    """The rows of one part, as dicts."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with pa.OSFile(str(path)) as file:
        return pa.ipc.open_file(file).read_all().to_pylist()


def part_paths(folder):
    """The parts of a folder in order; an error when there is none."""
    weights = Path(folder) / "weights"
    paths = sorted(path for path in weights.glob("part-*") if path.suffix in (".parquet", ".arrow"))
    if not paths:
        raise FileNotFoundError(f"no part-*.parquet or part-*.arrow in {weights}")
    return paths


def assemble(name, rows):
    """A tensor from its rows: float32 when they are quantized, else the dtype it was stored in."""
    dtype, shape = rows[0]["dtype"], rows[0]["shape"]
    count, length = rows_of(shape)
    rows = sorted(rows, key=lambda row: row["channel"])
    if [row["channel"] for row in rows] != list(range(count)):
        raise ValueError(f"{name}: shape {shape} has channels 0 to {count - 1}, each once")
    if any(row["dtype"] != dtype or row["shape"] != shape for row in rows):
        raise ValueError(f"{name}: the rows differ in dtype or shape")

    values = []
    for row in rows:
        if (row["quantized"] is None) == (row["data"] is None):
            raise ValueError(f"{name}, row {row['channel']}: neither or both of quantized and data")
        if row["quantized"] is not None:
            value = decode_row(row["quantized"])
        else:
            value = np.frombuffer(row["data"], NUMPY_TYPES[dtype])
        if len(value) != length:
            raise ValueError(f"{name}, row {row['channel']}: {len(value)} elements, not {length}")
        values.append(value)
    if len({value.dtype for value in values}) != 1:
        raise ValueError(f"{name}: some rows are quantized and some are not")
    return np.concatenate(values).reshape(shape)


def read_quantized_folder(folder, original=True):
    """All tensors of a folder: name to array, float32 where quantized, else in the dtype they were stored in.

    Of an equalized folder the tensors are those of the model as it was; with `original=False` they are as stored.
    """
    rows = {}
    for path in part_paths(folder):
        for row in read_part(path):
            rows.setdefault(row["name"], []).append(row)
    tensors = {name: assemble(name, of_tensor) for name, of_tensor in rows.items()}
    if original:
        for name, (factors, row_factors, offsets) in read_changes(folder, tensors).items():
            changed = tensors[name].astype(np.float32)
            tensors[name] = ((changed - offsets) / factors / row_factors).astype(tensors[name].dtype)
    return tensors


def read_changes(folder, tensors):
    """What equalization made of each tensor that it changed: three arrays that broadcast over it.

    A weight became `weight * factors + offsets`, times what its row is multiplied by.
    """
    path = Path(folder) / "equalization.parquet"
    changes = {}
    for row in pq.read_table(path).to_pylist() if path.is_file() else []:
        rows, length = rows_of(tensors[row["name"]].shape)
        lists = [row["factors"] or [1] * length, row["row_factors"] or [1] * rows, row["offsets"] or [0] * length]
        factors, row_factors, offsets = (np.float32(values) for values in lists)
        changes[row["name"]] = factors, row_factors[:, None] if rows > 1 else row_factors, offsets
    return changes


def changed(weights, folder):
    """The weights of a model as equalization changes them, without quantization."""
    changes = read_changes(folder, weights)
    weights = {name: np.float32(tensor) for name, tensor in weights.items()}
    for name, (factors, row_factors, offsets) in changes.items():
        weights[name] = weights[name] * factors * row_factors + offsets
    return weights
