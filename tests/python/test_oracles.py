"""The oracles themselves, against values computed by hand."""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))

import quantized_folder as oracle

QUANTIZED = pa.struct(
    [
        ("bits", pa.uint8()),
        ("group_size", pa.uint32()),
        ("length", pa.uint32()),
        ("row_scale", pa.float32()),
        ("codes", pa.binary()),
        ("scales", pa.binary()),
        ("zero_points", pa.binary()),
    ]
)
SCHEMA = pa.schema(
    [
        ("name", pa.string_view()),
        ("module", pa.string_view()),
        ("dtype", pa.string_view()),
        ("shape", pa.list_(pa.int64())),
        ("channel", pa.int64()),
        ("quantized", QUANTIZED),
        ("data", pa.binary()),
    ]
)


def quantized(bits, group_size, length, row_scale, codes, scales, zero_points):
    values = (bits, group_size, length, row_scale, bytes(codes), bytes(scales), zero_points and bytes(zero_points))
    return dict(zip(QUANTIZED.names, values, strict=True))


def row(name, dtype, shape, channel, value):
    """A row of the folder; bytes are a carried row, a dict a quantized one."""
    carried = isinstance(value, bytes)
    return {
        "name": name,
        "module": name.removesuffix(".weight"),
        "dtype": dtype,
        "shape": shape,
        "channel": channel,
        "quantized": None if carried else value,
        "data": value if carried else None,
    }


def write_part(folder, number, rows, suffix="parquet"):
    (folder / "weights").mkdir(parents=True, exist_ok=True)
    path = folder / "weights" / f"part-{number:05}.{suffix}"
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if suffix == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)


@pytest.mark.parametrize(
    ("packed", "bits", "codes"),
    [
        ([0b11_10_01_00], 2, [0, 1, 2, 3]),
        ([0xA5, 0x0F], 4, [5, 10, 15]),
        # 3 bits cross bytes: the stream is 1, 2, 7, 4, least significant bit first
        ([0b11_010_001, 0b0000_100_1], 3, [1, 2, 7, 4]),
        ([0, 128, 255], 8, [0, 128, 255]),
        ([], 2, []),
    ],
)
def test_codes_are_a_dense_stream_least_significant_bit_first(packed, bits, codes):
    assert oracle.unpack_codes(bytes(packed), bits, len(codes)).tolist() == codes


def test_too_few_or_too_many_code_bytes_are_an_error():
    for packed in (b"\0", b"\0\0\0"):
        with pytest.raises(ValueError, match="take 2 bytes"):
            oracle.unpack_codes(packed, 3, 4)


@pytest.mark.parametrize(
    ("code", "scale"),
    [(0, 2.0**-15), (1, 1.0625 * 2.0**-15), (16, 2.0**-14), (232, 0.75), (240, 1.0), (248, 1.5), (255, 1.9375)],
)
def test_scale_codes_are_unsigned_floats_with_4_bit_mantissa(code, scale):
    assert oracle.decode_scale(code) == np.float32(scale)


def test_scale_codes_rise():
    assert np.all(np.diff([oracle.decode_scale(code) for code in range(256)]) > 0)


def test_asymmetric_row_with_a_short_last_group():
    # codes 0 1 2 3 | 3 0; scales 0.5 * (1, 1.5); zero points 85 * 3 / 255 = 1 and 0
    value = quantized(2, 4, 6, 0.5, [0b11_10_01_00, 0b00_11], [240, 248], [85, 0])
    assert oracle.decode_row(value).tolist() == [-0.5, 0.0, 0.5, 1.0, 2.25, 0.0]


def test_zero_point_between_codes_rounds_in_float32():
    # 100 * 15 / 255 = 5.882352...; the nearest float32 is 12336188 / 2^21
    assert oracle.decode_zero_point(100, 4) == np.float32(12336188 / 2**21)
    value = quantized(4, 32, 1, 1.0, [6], [240], [100])
    assert oracle.decode_row(value).tolist() == [6 - 12336188 / 2**21]


def test_symmetric_row_is_centred_on_half_the_codes():
    # z = 8, scale = 2 * 0.75; codes 0 8 15
    value = quantized(4, 32, 3, 2.0, [0x80, 0x0F], [232], None)
    assert oracle.decode_row(value).tolist() == [-12.0, 0.0, 10.5]


def test_row_scale_times_group_scale_rounds_before_the_code_multiplies():
    # (1 + 3*2^-23) * 1.9375 rounds to 1.9375 + 6*2^-23; times 15 is 29.0625 + 90*2^-23, which rounds to 6*2^-19.
    # Rounded only at the end it would be 29.0625 + 87.1875*2^-23, and so 5*2^-19.
    value = quantized(4, 32, 1, 1 + 3 * 2.0**-23, [15], [255], [0])
    assert oracle.decode_row(value).tolist() == [29.0625 + 6 * 2.0**-19]


def test_wrong_counts_are_errors():
    with pytest.raises(ValueError, match="2 scales, not 1"):
        oracle.decode_row(quantized(2, 4, 6, 1.0, [0, 0], [240], None))
    with pytest.raises(ValueError, match="2 zero points, not 3"):
        oracle.decode_row(quantized(2, 4, 6, 1.0, [0, 0], [240, 240], [0, 0, 0]))
    with pytest.raises(ValueError, match="bits are"):
        oracle.decode_row(quantized(5, 4, 1, 1.0, [0], [240], None))


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ([], (1, 1)),
        ([5], (1, 5)),
        ([3, 4], (3, 4)),
        ([2, 3, 4], (6, 4)),
        ([2, 3, 4, 5], (2, 60)),
        ([2, 3, 4, 5, 6], (2, 360)),
    ],
)
def test_rows_of_a_shape(shape, rows):
    assert oracle.rows_of(shape) == rows


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_folder_gives_quantized_tensors_widened_and_others_as_stored(tmp_path, suffix):
    weight = [quantized(2, 4, 2, scale, [0b11_10], [240], [85]) for scale in (1.0, 2.0)]
    bias = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    kernel = np.arange(8, dtype=np.int64).reshape(2, 1, 2, 2)
    # the rows of a tensor may lie in several parts
    write_part(
        tmp_path,
        0,
        [row("bias", "BF16", [2], 0, bias.tobytes()), row("a.weight", "BF16", [2, 2], 0, weight[0])],
        suffix,
    )
    write_part(
        tmp_path,
        1,
        [
            row("a.weight", "BF16", [2, 2], 1, weight[1]),
            row("kernel", "I64", [2, 1, 2, 2], 0, kernel[0].tobytes()),
            row("kernel", "I64", [2, 1, 2, 2], 1, kernel[1].tobytes()),
            row("step", "F32", [], 0, np.float32(7).tobytes()),
        ],
        suffix,
    )

    tensors = oracle.read_quantized_folder(tmp_path)

    assert list(tensors) == ["bias", "a.weight", "kernel", "step"]
    assert tensors["a.weight"].dtype == np.float32
    assert tensors["a.weight"].tolist() == [[1.0, 2.0], [2.0, 4.0]]
    assert tensors["bias"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(tensors["bias"], bias)
    np.testing.assert_array_equal(tensors["kernel"], kernel)
    assert tensors["step"].shape == () and tensors["step"] == 7


def test_missing_and_doubled_rows_are_errors(tmp_path):
    value = np.zeros(2, np.float32).tobytes()
    for name, channels in (("missing", [0]), ("doubled", [0, 1, 1])):
        write_part(tmp_path / name, 0, [row("w", "F32", [2, 2], channel, value) for channel in channels])
        with pytest.raises(ValueError, match="w: shape"):
            oracle.read_quantized_folder(tmp_path / name)


def test_a_folder_without_parts_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no part-"):
        oracle.read_quantized_folder(tmp_path)
