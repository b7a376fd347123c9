"""No input ends the interpreter: arrays of any type, chunking, slice and nulls give values or a named error."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import arrow_quant
from arrow_quant import _lib

FUNCTIONS = [function for function in _lib.functions() if not function["section"].startswith("Table")]
ELEMENTS = [
    pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.int64(), pa.uint32(), pa.bool_(), pa.string(),
    pa.binary(), pa.null(), pa.timestamp("us"), pa.decimal128(10, 2), pa.list_(pa.float32()),
]  # fmt: skip
settings.register_profile(
    "arrow_quant", deadline=None, max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("arrow_quant")


def value(element):
    if pa.types.is_floating(element):
        finite = st.floats(-4, 4, width=16)
        number = st.one_of(finite, finite, finite, st.floats(width=16))
        return number.map(np.float16) if pa.types.is_float16(element) else number
    if pa.types.is_integer(element):
        return st.integers(0, 100)
    if pa.types.is_boolean(element):
        return st.booleans()
    if pa.types.is_string(element):
        return st.text(max_size=3)
    if pa.types.is_binary(element):
        return st.binary(max_size=3)
    if pa.types.is_list(element):
        return st.lists(st.floats(-4, 4, width=16), max_size=3)
    return st.none()


@st.composite
def arrays(draw):
    """Lists of any element, any list type, with nulls inside and outside, sliced."""
    element = draw(st.sampled_from(ELEMENTS[:3] * 4 + ELEMENTS))
    kind = draw(st.sampled_from(["list", "large", "fixed", "view", "flat"]))
    inner = draw(st.sampled_from([value(element), value(element), st.one_of(st.none(), value(element))]))
    if kind == "flat":
        array = pa.array(draw(st.lists(inner, max_size=12)), element)
    elif kind == "fixed":
        size = draw(st.integers(0, 9))
        row = st.one_of(st.none(), st.lists(inner, min_size=size, max_size=size))
        array = pa.array(draw(st.lists(row, max_size=8)), pa.list_(element, size))
    else:
        row = st.one_of(st.none(), st.lists(inner, max_size=40), st.lists(inner, min_size=8, max_size=8))
        data_type = {"list": pa.list_, "large": pa.large_list, "view": pa.list_view}[kind](element)
        array = pa.array(draw(st.lists(row, max_size=8)), data_type)
    start = draw(st.integers(0, len(array)))
    return array.slice(start, draw(st.integers(0, len(array) - start)))


@st.composite
def corrupt(draw):
    """A struct with the fields of a quantized value and anything in them."""
    size = draw(st.integers(0, 4))

    def column(values, data_type):
        return pa.array(draw(st.lists(st.one_of(st.none(), values), min_size=size, max_size=size)), data_type)

    fields = {
        "bits": column(st.sampled_from([0, 2, 3, 4, 5, 8, 255]), pa.uint8()),
        "group_size": column(st.sampled_from([0, 1, 4, 32, 2**32 - 1]), pa.uint32()),
        "length": column(st.sampled_from([0, 1, 4, 7, 32, 2**32 - 1]), pa.uint32()),
        "row_scale": column(st.floats(width=32), pa.float32()),
        "codes": column(st.binary(max_size=9), pa.binary()),
        "scales": column(st.binary(max_size=4), pa.binary()),
        "zero_points": column(st.binary(max_size=4), pa.binary()),
    }
    return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))


@st.composite
def chunked(draw, array):
    cuts = sorted(draw(st.lists(st.integers(0, len(array)), max_size=3)))
    edges = [0, *cuts, len(array)]
    return pa.chunked_array([array[a:b] for a, b in pairwise(edges)], array.type)


SCALARS = st.one_of(
    st.sampled_from([2, 3, 4, 8, 0.5, "search", "minmax", True, False, 1, 32]),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.none(),
)


@st.composite
def calls(draw):
    function = draw(st.sampled_from(FUNCTIONS))
    rows = draw(st.one_of(arrays(), arrays(), corrupt()))
    arguments = []
    for argument in function["arguments"]:
        if argument["kind"] in ("Row", "RowOrQuantized", "Quantized", "Params"):
            other = draw(st.one_of(st.just(rows), arrays(), corrupt()))
            arguments.append(draw(st.one_of(st.just(other), chunked(other))))
        else:
            good = {"Bits": [2, 3, 4, 8], "GroupSize": [1, 4, 32], "Method": ["search", "minmax", None]}
            good = st.sampled_from(good.get(argument["kind"], [True, 1, 0.5]))
            arguments.append(draw(st.one_of(good, good, SCALARS, arrays())))
    return function["name"], arguments


@given(calls())
def test_every_call_gives_values_or_a_named_error(call):
    name, arguments = call
    try:
        result = getattr(arrow_quant, name)(*arguments)
        if isinstance(result, arrow_quant.ArrayStream):
            result = pa.chunked_array(result) if "struct" not in result.type.lower() else result.to_pyarrow()
            chunks = result.chunks
        else:
            chunks = [pa.array(result)]
    except (arrow_quant.ArrowQuantError, pa.ArrowInvalid, OSError):
        return
    for chunk in chunks:
        chunk.validate(full=True)


@given(arrays(), st.data())
def test_chunks_and_slices_do_not_change_the_values(array, data):
    try:
        want = arrow_quant.quantize(array, 4, 8)
    except arrow_quant.ArrowQuantError:
        return
    stream = arrow_quant.quantize(data.draw(chunked(array)), 4, 8)
    assert stream.to_pyarrow().to_pylist() == want.to_pylist()
