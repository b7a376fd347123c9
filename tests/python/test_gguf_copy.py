"""`COPY ... STORED AS GGUF`, read by the gguf package."""

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file


@pytest.fixture
def model(tmp_path):
    random = np.random.default_rng(3)
    shapes = {"a.weight": (70, 512), "b.weight": (33, 256), "conv.weight": (8, 16, 4, 4), "norm.weight": (300,)}
    tensors = {name: random.normal(0, 0.02, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", tensors


def copy(program, model, to, query, threads=1):
    statement = f"COPY ({query}) TO '{to}' STORED AS GGUF OPTIONS ('architecture' 'flux')"
    program("sql", statement, "--table", f"layers={model}", "--threads", threads)
    return to.read_bytes()


QUERY = """
SELECT name, channel, shape, weights, CASE WHEN name LIKE 'a%' THEN 'Q4_K' WHEN name LIKE 'b%' THEN 'Q6_K'
ELSE 'F32' END AS dtype FROM layers
"""


def test_rows_in_any_order_and_partitions_give_the_file_of_the_export(program, model, tmp_path):
    path, tensors = model
    one = copy(program, path, tmp_path / "a.gguf", QUERY)
    assert one == copy(program, path, tmp_path / "b.gguf", QUERY + "ORDER BY channel % 7, name DESC, channel")
    both = f"{QUERY} WHERE channel < 9 UNION ALL {QUERY} WHERE channel >= 9"
    assert one == copy(program, path, tmp_path / "c.gguf", both, 2)
    assert sorted(entry.suffix for entry in tmp_path.iterdir()) == [".gguf", ".gguf", ".gguf", ".safetensors"]
    options = ["--gguf-type", "Q4_K", "--gguf-type-for", "b=Q6_K", "--gguf-architecture", "flux"]
    program("quantize", path, "--output", tmp_path / "out", "--format", "gguf", *options)
    exported = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    copied = gguf.GGUFReader(tmp_path / "a.gguf")
    assert {name: field.contents() for name, field in copied.fields.items() if "count" not in name} == {
        name: field.contents() for name, field in exported.fields.items() if "count" not in name
    }
    exported = {tensor.name: tensor for tensor in exported.tensors}
    assert [tensor.name for tensor in copied.tensors] == sorted(tensors)
    for tensor in copied.tensors:
        other = exported[tensor.name]
        assert (tensor.tensor_type, list(tensor.shape)) == (other.tensor_type, list(other.shape))
        assert (tensor.data == other.data).all(), tensor.name


def test_blocks_are_carried_as_they_are(program, model, tmp_path):
    path, _ = model
    one = copy(program, path, tmp_path / "a.gguf", QUERY)
    query = "SELECT name, channel, dtype, shape, data FROM layers"
    assert one == copy(program, tmp_path / "a.gguf", tmp_path / "b.gguf", query)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT name, channel, 'Q4_K' AS dtype, weights FROM layers", "cannot be stored as Q4_K"),
        ("SELECT name, channel, 'Q4' AS dtype, weights FROM layers", "unknown GGUF type 'Q4'; known are F32"),
        ("SELECT name, channel, dtype, shape, data FROM layers WHERE channel > 0", "row 0 is missing"),
        ("SELECT 'a' AS name, 0 AS channel, 'U8' AS dtype, data FROM layers LIMIT 1", "unknown GGUF type 'U8'"),
        ("SELECT repeat('a', 128) AS name, 0 AS channel, [1.0] AS weights", "has a name of 128 bytes"),
        ("SELECT 'a' AS name, 0 AS channel, [1, 1, 1, 1, 1, 1] AS shape, [1.0] AS weights", "has 6 dimensions"),
    ],
)
def test_what_the_format_does_not_have_is_an_error(fails, model, tmp_path, query, message):
    to = tmp_path / "a.gguf"
    error = fails("sql", f"COPY ({query}) TO '{to}' STORED AS GGUF", "--table", f"layers={model[0]}")
    assert message in error
    assert [entry.suffix for entry in tmp_path.iterdir()] == [".safetensors"]
