"""The arguments of the functions, as protocols: no library is named, and none is needed."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, runtime_checkable


@runtime_checkable
class ArrowArray(Protocol):
    """An Arrow array or batch: `pyarrow.Array`, `pyarrow.RecordBatch`, `arro3.core.Array`, `arrow_quant.Array` ..."""

    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any: ...


@runtime_checkable
class ArrowStream(Protocol):
    """A stream of Arrow arrays: `pyarrow.ChunkedArray`, `pyarrow.Table`, `polars.Series`, `arrow_quant.ArrayStream` ..."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...


class NumpyArray(Protocol):
    """A NumPy array of numbers: two dimensions are rows, one dimension is one row."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


ArrayLike: TypeAlias = ArrowArray | NumpyArray
