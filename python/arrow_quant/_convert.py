"""Results as objects of PyArrow and NumPy. PyArrow is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._types import ArrowArray, ArrowStream


def _is_table(field: Any) -> bool:
    """A table travels as structs that are never null."""
    import pyarrow as pa

    return pa.types.is_struct(field.type) and not field.nullable


def array_to_pyarrow(array: ArrowArray) -> Any:
    """A `pyarrow.Array`, or a `pyarrow.RecordBatch` where the array stands for one."""
    import pyarrow as pa

    return pa.record_batch(array) if _is_table(pa.field(array)) else pa.array(array)


def stream_to_pyarrow(stream: ArrowStream) -> Any:
    """A `pyarrow.ChunkedArray`, or a `pyarrow.Table` where the stream is one of batches."""
    import pyarrow as pa

    return pa.table(stream) if _is_table(pa.field(stream)) else pa.chunked_array(stream)


def array_to_pylist(array: ArrowArray) -> list[Any]:
    """Returns the values as Python objects."""
    values = array_to_pyarrow(array).to_pylist()
    assert isinstance(values, list)
    return values


def array_to_numpy(array: ArrowArray) -> NDArray[Any]:
    """A NumPy array: of two dimensions for lists of one length, without a copy where there are no nulls."""
    return _to_numpy(array_to_pyarrow(array))


def chunks_to_numpy(chunks: Any) -> NDArray[Any]:
    """Does the same as `array_to_numpy`; the chunks are put together."""
    return _to_numpy(chunks.combine_chunks())


def _to_numpy(array: Any) -> NDArray[Any]:
    import pyarrow as pa

    from .exceptions import ArgumentError

    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else pa.concat_arrays(array.chunks)
    length = None
    if pa.types.is_fixed_size_list(array.type):
        length = array.type.list_size
        array = array.cast(pa.list_(array.type.value_type))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        if array.null_count:
            raise ArgumentError(f"{array.null_count} rows are null; NumPy has no null: drop them or use to_pyarrow")
        values: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
        rows = len(array)
        lengths = array.value_lengths().unique()
        if len(lengths) > 1:
            raise ArgumentError("the rows have different lengths; NumPy needs one: use to_pyarrow")
        if length is None:
            length = lengths[0].as_py() if rows else 0
        return values.reshape(rows, length)
    if isinstance(array, pa.RecordBatch | pa.Table) or pa.types.is_struct(array.type):
        raise ArgumentError("NumPy has no structs of this kind: use to_pyarrow, or dequantize, codes or scales first")
    result: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return result
