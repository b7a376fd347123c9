"""Files for the fuzzers to begin with: small valid ones of every type, and lies about each.

`python3 fuzz/seeds.py` writes them to the folders of the targets in `fuzz/corpus`. It needs nothing but Python, and
nothing of the code under test.
"""

import json
import struct
from math import prod
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"

# Number of the type in the format, weights and bytes of a block.
GGUF_TYPES = {
    "F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q4_1": (3, 32, 20), "Q5_0": (6, 32, 22), "Q5_1": (7, 32, 24),
    "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110), "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176),
    "Q6_K": (14, 256, 210), "I8": (24, 1, 1), "I16": (25, 1, 2), "I32": (26, 1, 4), "I64": (27, 1, 8), "F64": (28, 1, 8),
    "BF16": (30, 1, 2),
}  # fmt: skip

# Bits of an element.
DTYPES = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


def noise(count: int) -> bytes:
    """Bytes that repeat with no power of two."""
    return bytes(i * 37 % 251 for i in range(count))


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def pair(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


# One of each type of value.
PAIRS = [
    pair("general.architecture", 8, string("flux")),
    pair("a", 0, b"\x01"),
    pair("b", 1, b"\xff"),
    pair("c", 2, b"\x01\x00"),
    pair("d", 3, b"\xff\xff"),
    pair("e", 4, struct.pack("<I", 1)),
    pair("f", 5, struct.pack("<i", -1)),
    pair("g", 6, struct.pack("<f", 0.5)),
    pair("h", 7, b"\x01"),
    pair("i", 9, struct.pack("<IQ", 5, 2) + struct.pack("<ii", 1, -2)),
    pair("j", 9, struct.pack("<IQ", 8, 2) + string("x") + string("é")),
    pair("k", 10, struct.pack("<Q", 1)),
    pair("l", 11, struct.pack("<q", -1)),
    pair("m", 12, struct.pack("<d", 0.5)),
]


def gguf(tensors: list[tuple[str, str, list[int]]], pairs: list[bytes] = (), alignment: int = 32, version: int = 3) -> bytes:
    """A file of tensors given by name, type and shape, the innermost dimension last."""
    if alignment != 32:
        pairs = [*pairs, pair("general.alignment", 4, struct.pack("<I", alignment))]
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs)
    data = b""
    for name, kind, shape in tensors:
        number, unit, unit_bytes = GGUF_TYPES[kind]
        data += bytes(-len(data) % alignment)
        head += string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), number, len(data))
        data += noise(prod(shape) // unit * unit_bytes)
    return head + bytes(-len(head) % alignment) + data


def safetensors(tensors: list[tuple[str, str, list[int], bytes | None]], metadata: dict | None = None) -> bytes:
    """A file of tensors given by name, dtype, shape and bytes; no bytes: noise."""
    header, data = ({} if metadata is None else {"__metadata__": metadata}), b""
    for name, dtype, shape, content in tensors:
        content = noise(prod(shape) * DTYPES[dtype] // 8) if content is None else content
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def packed(bits: int, groups: int, zero_points: bool) -> bytes:
    """A module as compressed-tensors packs it."""
    rows, length = 8, 64
    tensors = [
        ("m.weight_packed", "I32", [rows, length * bits // 32], None),
        ("m.weight_scale", "BF16", [rows, groups], None),
        ("m.weight_shape", "I64", [2], struct.pack("<qq", rows, length)),
    ]
    if zero_points:
        tensors.append(("m.weight_zero_point", "I32", [-(-rows * bits // 32), groups], None))
    return safetensors(tensors)


def valid_gguf() -> dict[str, bytes]:
    files = {f"type-{kind}": gguf([("w.weight", kind, [2, 256])], PAIRS[:1]) for kind in GGUF_TYPES}
    ranks = [[], [3], [2, 3], [2, 2, 3], [2, 1, 2, 3], [0, 4]]
    files["pairs"] = gguf([], PAIRS)
    files["ranks"] = gguf([(f"layers.{i}.w", "F16", shape) for i, shape in enumerate(ranks)])
    files["several"] = gguf([("a", "Q8_0", [3, 32]), ("b", "F32", [5]), ("c", "Q4_0", [2, 2, 32])], PAIRS)
    files["alignment"] = gguf([("a", "F32", [3]), ("b", "I8", [5])], alignment=64)
    files["version-2"] = gguf([("a", "F32", [3])], version=2)
    return files


def valid_safetensors() -> dict[str, bytes]:
    files = {f"dtype-{dtype}": safetensors([("w.weight", dtype, [2, 4], None)]) for dtype in DTYPES}
    ranks = [[], [3], [2, 3], [2, 2, 3], [2, 1, 2, 3], [0, 4]]
    files["metadata"] = safetensors([], {"format": "pt", "é": "\n"})
    files["ranks"] = safetensors([(f"layers.{i}.w", "F16", shape, None) for i, shape in enumerate(ranks)])
    files["several"] = safetensors([("a", "F32", [3, 2], None), ("b", "F4", [4, 3], None), ("c", "I64", [1], None)])
    one = struct.pack("<f", 0.5)
    for name, shape in [("scale_weight", []), ("weight_scale", [4, 1]), ("weight_scale_inv", [1, 1])]:
        scale = (f"m.{name}", "F32", shape, one * prod(shape))
        files[f"fp8-{name}"] = safetensors([("m.weight", "F8_E4M3", [4, 8], None), scale])
    files["fp8-alone"] = safetensors([("m.weight", "F8_E5M2", [4, 8], None), ("n", "F32", [2], None)])
    for bits in (2, 3, 4, 8):
        for groups, zero_points in [(1, False), (2, True)]:
            files[f"packed-{bits}-{groups}"] = packed(bits, groups, zero_points)
    # Layers of MLX, which need no configuration.
    for name, words, scales in [("mxfp4", 8, 2), ("mxfp8", 16, 2), ("nvfp4", 8, 4)]:
        files[f"mlx-{name}"] = safetensors([("m.weight", "U32", [4, words], None), ("m.scales", "U8", [4, scales], None)])
    files["mlx-stack"] = safetensors([("m.weight", "U32", [2, 3, 4], None), ("m.scales", "U8", [2, 3, 1], None)])
    return files


def entropy() -> dict[str, bytes]:
    """Two rows of entropy-coded weights: group sizes, lengths, where the codes are cut, and streams of each table."""
    files = {}
    for table in range(0, 256, 5):
        # The state that a stream of nothing has, the least that takes words, and noise.
        for name, rest in [("none", b"\xa5"), ("words", b"\xa5\x00\x00" + noise(8)), ("noise", noise(60))]:
            stream = bytes([table]) + rest
            head = struct.pack("<BHBHB", 64, 16, 64, 16, len(stream))
            files[f"table-{table}-{name}"] = head + stream + stream
    stream = b"\x0c\xa5"
    files["groups"] = struct.pack("<BHBHB", 8, 24, 8, 8, 10) + struct.pack("<HH", 2, 2) + 4 * stream
    files["empty"] = struct.pack("<BHBHB", 1, 0, 1, 0, 0)
    return files


def lies(name: str, file: bytes, start: int) -> dict[str, bytes]:
    """The same file cut off at several places, with bits turned around, and with more at its end than it says."""
    cut = {f"{name}-cut-{share}": file[: len(file) * share // 8] for share in (1, 3, 5, 7)}
    turned = {}
    for at in range(start, min(len(file), 160), 13):
        turned[f"{name}-turned-{at}"] = file[:at] + bytes([file[at] ^ (1 << at % 8)]) + file[at + 1 :]
    return cut | turned | {f"{name}-longer": file + bytes(40)}


def main() -> None:
    for target, files, start, damaged in [
        ("gguf", valid_gguf(), 4, ["several", "ranks", "type-Q4_K"]),
        ("safetensors", valid_safetensors(), 0, ["several", "fp8-weight_scale", "packed-4-2"]),
        ("entropy", entropy(), 0, ["groups", "table-60-words"]),
    ]:
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name in damaged:
            files |= lies(name, files[name], start)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        print(f"{folder}: {len(files)} files, {max(map(len, files.values()))} bytes at most")


if __name__ == "__main__":
    main()
