"""The native module."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

from numpy.typing import NDArray

from ._types import ArrayLike

__version__: str
DATAFUSION_VERSION: str

@final
class Array:
    """An Arrow array. Anything that takes Arrow's PyCapsule interface takes it without a copy."""

    @property
    def type(self) -> str:
        """The type, as Arrow writes it."""
    @property
    def nbytes(self) -> int:
        """Bytes that the array takes."""
    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any: ...
    def __len__(self) -> int: ...
    def to_pyarrow(self) -> Any:
        """A `pyarrow.Array`, or a `pyarrow.RecordBatch` where a batch was given. No copy."""
    def to_numpy(self) -> NDArray[Any]:
        """A NumPy array, of two dimensions for lists. No copy where there are no nulls."""
    def to_pylist(self) -> list[Any]:
        """The values as Python objects."""
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """As `to_numpy`, for `numpy.asarray`."""

@final
class ArrayStream:
    """Arrow arrays that are made one at a time, as they are asked for. It can be read once.

    Iterating and the methods below raise the package's exceptions. A library that reads the stream through Arrow's C
    interface raises its own, with the same words.
    """

    @property
    def type(self) -> str:
        """The type, as Arrow writes it."""
    def __arrow_c_schema__(self) -> Any: ...
    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any: ...
    def __iter__(self) -> Iterator[Array]: ...
    def __next__(self) -> Array: ...
    def to_pyarrow(self) -> Any:
        """All that is left, as a `pyarrow.ChunkedArray`, or as a `pyarrow.Table` where a table was given."""
    def to_numpy(self) -> NDArray[Any]:
        """All that is left, as a NumPy array."""
    def to_pylist(self) -> list[Any]:
        """All that is left, as Python objects."""

@final
class Session:
    def __init__(self, threads: int | None = None, memory_limit: str | None = None) -> None: ...
    def sql(self, query: str, parameters: dict[str, object]) -> Query: ...
    def register_model(self, name: str, path: str) -> None: ...
    def register_arrow(self, name: str, table: object) -> None: ...

@final
class Query:
    def stream(self) -> ArrayStream: ...
    def cancel(self) -> None: ...
    def explain(self) -> str: ...
    def __arrow_c_schema__(self) -> Any: ...

@final
class Function:
    @property
    def name(self) -> str: ...
    @property
    def is_aggregate(self) -> bool: ...
    def __datafusion_scalar_udf__(self) -> Any: ...
    def __datafusion_aggregate_udf__(self) -> Any: ...

def as_array(values: ArrayLike) -> Array:
    """The values of an Arrow or NumPy array as an `Array`. They are not copied.

    Raises:
        ArgumentError: when they are neither.
    """

def call(name: str, arguments: Sequence[object]) -> Any: ...
def aggregate(name: str, arguments: Sequence[object]) -> Array: ...
def functions() -> list[dict[str, Any]]: ...
def exported_functions() -> list[Function]: ...
def quantize_model(
    model: str,
    output: str | None,
    spec: dict[str, Any],
    settings: dict[str, Any],
    progress: Callable[[int, int, str], object] | None,
) -> dict[str, Any]: ...
def report_section(table: object) -> str: ...
def spec_fields() -> list[str]: ...
def main(arguments: Sequence[str]) -> int: ...
