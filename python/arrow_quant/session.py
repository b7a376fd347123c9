"""SQL over models and Arrow tables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from . import _lib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._lib import Array, ArrayStream

__all__ = ["Query", "Session"]


class Query:
    """A query that has been planned. It runs when its rows are read, and again each time they are.

    Anything that takes Arrow streams takes it: `pyarrow.table(query)`, `polars.DataFrame(query)`. Its rows are computed
    batch by batch, as they are asked for; iterating gives the batches.
    """

    def __init__(self, query: _lib.Query) -> None:
        self._query = query

    def __arrow_c_schema__(self) -> Any:
        return self._query.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return self._query.stream().__arrow_c_stream__(requested_schema)

    def __iter__(self) -> Iterator[Array]:
        return iter(self._query.stream())

    def stream(self) -> ArrayStream:
        """Starts the query; the stream gives one batch after the other."""
        return self._query.stream()

    def to_pyarrow(self) -> Any:
        """Runs the query to its end and gives a `pyarrow.Table`. Ctrl-C stops it."""
        return self._query.stream().to_pyarrow()

    def to_pandas(self) -> Any:
        """Runs the query to its end and gives a `pandas.DataFrame`, which needs pandas."""
        return self.to_pyarrow().to_pandas()

    def explain(self) -> str:
        """The plan as text."""
        return self._query.explain()


class Session:
    """A SQL session over models and Arrow tables.

    Args:
        threads: threads that a query is planned for; all cores when left out.
        memory_limit: memory for the rows that queries hold (sorted, grouped, joined, looked at through a window or kept by
            `CREATE TABLE`), in bytes or as "2GB"; half of the memory when left out. What does not fit is written to
            temporary files, or raises QueryError. Tables that are registered, and results, do not count.

    Raises:
        ArgumentError: when `threads` is not 1 to 4096, or `memory_limit` no size.

    A session may be used from several threads at once. `docs/sql_reference.md` lists the functions.

        >>> import pyarrow as pa
        >>> session = Session()
        >>> session.register("layers", pa.table({"w": [[0.0, 1.0, 2.0, 3.0]]}))
        >>> session.sql("SELECT codes(quantize(w, $bits, 4, 'minmax')) AS codes FROM layers", bits=2).to_pyarrow().to_pylist()
        [{'codes': [0, 1, 2, 3]}]
    """

    def __init__(self, threads: int | None = None, memory_limit: int | str | None = None) -> None:
        self._session = _lib.Session(threads, None if memory_limit is None else str(memory_limit))

    def sql(self, query: str, /, **parameters: object) -> Query:
        """Plans a query. `$name` in it stands for the parameter of that name: a number, a string, a boolean, None, a list
        of numbers, bytes, or a NumPy or Arrow array of one row. What gives no table (CREATE, DROP, SET) is done at once.

        Raises:
            QueryError: when the query is wrong, or the parameters are not those that it has.
            FileError: when a file that it names cannot be read.
        """
        return Query(self._session.sql(query, parameters))

    async def sql_async(self, query: str, /, **parameters: object) -> Any:
        """Runs a query to its end beside the event loop and gives a `pyarrow.Table`. Cancelling ends the query.

        Raises:
            QueryError: when the query is wrong.
            FileError: when a file that it names cannot be read.
            DataError: when values cannot be computed with.
        """
        # Costs a third of the time that importing the package takes, and few need it.
        import asyncio

        planned = await asyncio.to_thread(lambda: self.sql(query, **parameters))
        try:
            return await asyncio.to_thread(planned.to_pyarrow)
        except asyncio.CancelledError:
            planned._query.cancel()
            raise

    def register(self, name: str, source: object) -> None:
        """Makes a table called `name`, in place of one that has the name already.

        Args:
            name: the table's name.
            source: a model (a path, as `quantize_model` takes it), or an Arrow table, batch or stream, whose batches are
                kept and not copied. Queries read their rows in order, on one thread.

        Raises:
            ArgumentError: when `source` is neither.
            FileError: when the model cannot be read.
        """
        if isinstance(source, str | os.PathLike):
            self._session.register_model(name, os.fspath(source))
        else:
            self._session.register_arrow(name, source)
